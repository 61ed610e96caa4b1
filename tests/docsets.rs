//! Docsets by the verbs that make, compare, refresh, share and delete them.

use std::process::Output;

use crate::support::{adit, last_line, small, succeed, text, write_collection};

#[tokio::test]
async fn docsets_are_combined_drawn_refreshed_compared_and_shared() {
    let (dir, server) = small(&[]);
    let (owner, guest) = (server.new_key("owner", &[]), server.new_key("guest", &[]));
    let run = |key: &str, arguments: &[&str]| -> Output {
        adit(&server.data).arg("docset").args(arguments).env("ADIT_API_KEY", key).output().unwrap()
    };
    let docset = |arguments: &[&str]| -> String {
        let output = run(&owner, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let refused = |key: &str, arguments: &[&str]| {
        let output = run(key, arguments);
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };

    let all = last_line(&docset(&["create", "c", "*", "--name", "all"]));
    let list = dir.path().join("refs.txt");
    std::fs::write(&list, "doc.1\ndoc.2\n\ndoc.2\n").unwrap();
    let two = docset(&["create", "c", "--refs", list.to_str().unwrap(), "--name", "two & more"]);
    assert!(two.contains("2 documents of refs in c two & more"), "{two}");
    let two = last_line(&two);
    let rest = docset(&["create", "c", "--difference", &format!("{all},{two}")]);
    assert!(rest.contains(&format!("3 documents of the difference of [{all},{two}] in c")), "{rest}");
    let drawn = docset(&["create", "c", "*", "--sample", "2", "--seed", "7"]);
    assert!(drawn.contains("2 documents drawn of \"*\" in c"), "{drawn}");
    let file = ["create", "c", "--refs", list.to_str().unwrap()];
    assert!(docset(&[&file[..], &["--sample", "1", "--seed", "7"]].concat()).contains("1 documents drawn of refs"));
    for wrong in [&["create", "c"][..], &["create", "c", "*", "--union", "1"], &["create", "c", "*", "--sample", "2"]] {
        assert!(refused(&owner, wrong).contains("Usage"), "{wrong:?}");
    }
    std::fs::write(&list, "doc.1\nnowhere\n").unwrap();
    assert!(refused(&owner, &file).contains("1 of 2 refs are not in the collection"));

    assert_eq!(last_line(&docset(&["refresh", &all])), all, "nothing has changed");
    let words = [text("doc.1", "On iron", "Iron once more."), text("doc.9", "On tin", "A treatise on mining tin.")];
    succeed(&server.data, &["import", write_collection(dir.path(), "c", &words).to_str().unwrap()]);
    let now = last_line(&docset(&["refresh", &all]));
    let diff = docset(&["diff", &now, "--since", &all]);
    assert_eq!(diff, "added      doc.9\nchanged    doc.1\n1 added, 1 changed, 0 withdrawn\n");
    let lines = docset(&["diff", &all, "--since", &now, "--json"]);
    assert!(lines.lines().count() == 2 && lines.contains("\"change\":\"withdrawn\""), "{lines}");

    assert!(docset(&["rename", &all, "once"]).contains("in c once"));
    let link = last_line(&docset(&["share", &all, "--days", "1"]));
    assert!(refused(&guest, &["show", &all]).contains("there is no such docset"));
    assert!(refused(&guest, &["open", "http://example.org/api/shared/1-x"]).contains("another server"));
    assert_eq!(last_line(&String::from_utf8(run(&guest, &["open", &link]).stdout).unwrap()), all);
    assert!(run(&guest, &["show", &all]).status.success());
    assert!(refused(&guest, &["delete", &all]).contains("there is no such docset"));
    let links = docset(&["share", &all, "--list"]);
    assert!(links.contains("followed by 1 keys") && links.contains(&link), "{links}");
    docset(&["share", &all, "--revoke", "1"]);
    assert!(refused(&guest, &["show", &all]).contains("there is no such docset"));
    docset(&["delete", &all]);
    assert!(refused(&owner, &["show", &all]).contains("there is no such docset"));
    assert!(refused(&owner, &["refresh", "3"]).contains("was deleted"));
}
