//! The miner's verbs, as a person types them.

use std::process::Output;

use crate::support::{Server, adit, last_line, noise, small, succeed, unzip};

#[tokio::test]
async fn search_docset_package_and_verify() {
    let (dir, server) = small(&[]);
    let key = server.new_key("miner", &[]);
    let miner = |arguments: &[&str]| -> Output {
        adit(&server.data).args(arguments).env("ADIT_API_KEY", &key).current_dir(dir.path()).output().unwrap()
    };
    let text = |output: &Output| {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let found = text(&miner(&["search", "c", "title:gold", "--facet", "year"]));
    assert!(found.contains("On gold") && found.contains("2020") && last_line(&found) == "1 hits", "{found}");
    let docset = last_line(&text(&miner(&["docset", "create", "c", "mining", "--name", "all of it"])));
    assert!(text(&miner(&["docset", "list"])).contains("5 documents of \"mining\" in c all of it"));

    let archive = dir.path().join("out.zip");
    let package = |more: &[&str]| {
        text(&miner(&[&["package", &docset, "--formats", "txt,meta", "--layout", "bag"], more].concat()))
    };
    let output = ["-o", archive.to_str().unwrap()];
    let saved = package(&output);
    let sha256 = saved.split_whitespace().next().unwrap().to_owned();
    let verified = text(&miner(&["verify", archive.to_str().unwrap(), "--sha256", &sha256]));
    assert!(verified.contains("20 files are whole, and are those of the bag's manifest"), "{verified}");

    let whole = std::fs::read(&archive).unwrap();
    let saved = package(&[]);
    let name = saved.split_whitespace().last().unwrap();
    assert!(std::fs::read(dir.path().join(name)).unwrap() == whole);
    let folder = name.replace(".zip", "/");
    assert!(unzip(&whole).keys().all(|name| name.starts_with(&folder)), "a bag is saved under its folder's name");

    // A download that was cut off before, or was of another archive, ends in the right bytes all the same.
    let beside = |ending: &str| dir.path().join(format!("out.zip{ending}"));
    let own = format!("\"{sha256}\"");
    let half = &whole[..whole.len() / 2];
    for (part, tag) in [(half, own.as_str()), (&noise(1, 100), "\"other\""), (&noise(2, whole.len() + 1), own.as_str())]
    {
        std::fs::remove_file(&archive).unwrap();
        std::fs::write(beside(".part"), part).unwrap();
        std::fs::write(beside(".part.etag"), tag).unwrap();
        package(&output);
        assert!(std::fs::read(&archive).unwrap() == whole);
        assert!(!beside(".part").exists() && !beside(".part.etag").exists());
    }

    for position in [whole.len() / 3, whole.len() / 2] {
        let mut damaged = whole.clone();
        damaged[position] ^= 1;
        std::fs::write(&archive, damaged).unwrap();
        let refused = miner(&["verify", archive.to_str().unwrap(), "--sha256", &sha256]);
        assert_eq!(refused.status.code(), Some(1), "byte {position}");
    }
}

#[tokio::test]
async fn mistakes_are_told_with_their_remedy() {
    let (_dir, server) = small(&[]);
    let fails = |arguments: &[&str], key: &str| {
        let output = adit(&server.data).args(arguments).env("ADIT_API_KEY", key).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(fails(&["docset", "list"], "wrong").contains("ADIT_API_KEY"));
    assert!(fails(&["search", "c", "titel:x"], &server.key).contains("no field \"titel\""));
    assert!(fails(&["--url", "http://127.0.0.1:9", "search", "c", "x"], &server.key).contains("is the server up?"));
    let second = adit(&server.data).args(["--listen", "127.0.0.1:0", "up"]).output().unwrap();
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(text.contains("another `adit up` (process ") && text.contains(") runs on"), "{text}");
    let wrong =
        adit(&server.data).arg("up").env("ADIT_WORKERS", "many").env("ADIT_STORE_URL", "ftp://x").output().unwrap();
    let text = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(text.contains("ADIT_WORKERS") && text.contains("ADIT_STORE_URL") && text.contains("2 mistake"), "{text}");
}

#[tokio::test]
async fn the_key_of_the_packager_inside_ends_with_its_run() {
    let (_dir, server) = small(&[]);
    let data = server.data.clone();
    let unrevoked = || {
        let list = succeed(&data, &["keys", "list"]);
        let own = list.lines().filter(|line| line.contains("packager inside adit up"));
        own.filter(|line| line.split_whitespace().nth(7) == Some("-")).count()
    };
    assert_eq!(unrevoked(), 1);
    server.kill();
    let server = Server::start(&data, &[]);
    assert_eq!(unrevoked(), 1, "that of the killed run is revoked at the next start");
    assert!(server.stop().success());
    assert_eq!(unrevoked(), 0);
}

#[tokio::test]
async fn keys_are_narrowed_expire_and_are_found_when_they_are_not_used() {
    let (_dir, server) = small(&[]);
    let data = server.data.clone();
    let key = server.new_key("reader", &["--scope", "search,docsets:read", "--expires", "2099-01-31"]);
    let me = async || {
        let answer = server.request_as(Some(&key), reqwest::Method::GET, "/api/me").send().await.unwrap();
        answer.json::<serde_json::Value>().await.unwrap()
    };
    let shown = me().await;
    assert_eq!(shown["scopes"], serde_json::json!(["search", "docsets:read"]));
    assert_eq!(shown["expires"], "2099-01-31T00:00:00.000Z");
    let id = shown["id"].to_string();
    let line = |arguments: &[&str]| {
        let list = succeed(&data, &[&["keys", "list"], arguments].concat());
        list.lines().find(|line| line.split_whitespace().next() == Some(&id)).map(str::to_owned)
    };
    let listed = line(&[]).unwrap();
    assert!(
        listed.contains("2099-01-31T00:00:00.000Z") && listed.ends_with("reader scopes: search, docsets:read"),
        "{listed}"
    );
    assert_eq!(line(&["--unused-for", "1d"]), None, "it was made today");

    let told = succeed(&data, &["keys", "set", &id, "--scope", "role", "--expires", "never"]);
    assert!(told.contains("it expires: never; it may: search, documents:read,"), "{told}");
    assert_eq!((&me().await["expires"], me().await["scopes"].as_array().unwrap().len()), (&serde_json::Value::Null, 7));
    // The hour of its use is stored by the server some seconds after it.
    crate::support::eventually("the last use is stored", || async {
        line(&[]).unwrap().split_whitespace().nth(5).filter(|used| *used != "-").map(str::to_owned)
    })
    .await;
    for (arguments, told) in [
        (["--scope", "usage"], "no key of role miner has the scope usage"),
        (["--scope", "admin"], "unknown scope \"admin\""),
        (["--expires", "2001-01-01"], "in the past"),
        (["--expires", "soon"], "is no expiry"),
    ] {
        let output = adit(&data).args(["keys", "set", &id]).args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(told), "{arguments:?}: {text}");
    }
    assert_eq!(me().await["scopes"].as_array().unwrap().len(), 7, "nothing of it was done");
}
