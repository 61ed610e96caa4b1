//! What holds for the whole contract, said once: the problems that operations of a kind may answer, the forms of a key, and that
//! answers show all their members. What one operation alone does stands at its handler.

use adit_shared::domain::join_scopes;
use axum::http::StatusCode;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{Operation, ParameterIn, PathItem};
use utoipa::openapi::schema::{AdditionalProperties, AllOfBuilder, ObjectBuilder, OneOfBuilder, SchemaType, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{Components, Content, OpenApi, Ref, RefOr, Response, ResponseBuilder, Schema};

use crate::permissions::Permission;
use crate::problem;

/// A problem that several operations answer in the same way. A handler's annotation may name its status alone: `(status = 429)`.
struct Common {
    status: StatusCode,
    name: &'static str,
    description: &'static str,
    headers: &'static [(&'static str, Type, &'static str)],
    /// Whether what the operation is tells that it may answer so.
    applies: fn(path: &str, operation: &Operation) -> bool,
}

const COMMON: &[Common] = &[
    Common {
        status: StatusCode::BAD_REQUEST,
        name: "InvalidRequest",
        description: "A parameter or the body is not as it must be",
        headers: &[],
        applies: |_, operation| takes_body(operation) || has_parameter(operation, &ParameterIn::Query),
    },
    Common {
        status: StatusCode::UNAUTHORIZED,
        name: "Unauthorized",
        description: "There is no key where one is needed, or it is unknown, revoked or expired",
        headers: &[("www-authenticate", Type::String, "`Bearer`")],
        // A key that is shown must be valid, whatever is asked.
        applies: |path, operation| {
            path.starts_with("/api/") || Permission::of(operation).is_some_and(Permission::needs_key)
        },
    },
    Common {
        status: StatusCode::NOT_FOUND,
        name: "NotFound",
        description: "It is not there, or it is somebody else's",
        headers: &[],
        applies: |_, operation| has_parameter(operation, &ParameterIn::Path),
    },
    Common {
        status: StatusCode::REQUEST_TIMEOUT,
        name: "BodyStalled",
        description: "The body arrives too slowly",
        headers: &[],
        applies: |_, operation| takes_body(operation),
    },
    Common {
        status: StatusCode::MISDIRECTED_REQUEST,
        name: "MisdirectedRequest",
        description: "The service is not asked by this name",
        headers: &[],
        applies: |path, _| !matches!(path, "/healthz" | "/readyz"),
    },
    Common {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        name: "BodyTooLarge",
        description: "The body has more than 1 MiB",
        headers: &[],
        applies: |_, operation| takes_body(operation),
    },
    Common {
        status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
        name: "UnsupportedMediaType",
        description: "The body is not declared as JSON",
        headers: &[],
        applies: |_, operation| takes_body(operation),
    },
    Common {
        status: StatusCode::FORBIDDEN,
        name: "Forbidden",
        description: "The key lacks the scope (`scopes` names those of which it needs one), or an entitlement (`rights-missing`)",
        headers: &[("www-authenticate", Type::String, "`Bearer` with the scopes")],
        applies: |_, operation| Permission::of(operation).is_some_and(|permission| !permission.scopes().is_empty()),
    },
    Common {
        status: StatusCode::RANGE_NOT_SATISFIABLE,
        name: "RangeNotSatisfiable",
        description: "The range lies outside of the content",
        headers: &[("content-range", Type::String, "`bytes */` and the content's length")],
        applies: where_named,
    },
    Common {
        status: StatusCode::TOO_MANY_REQUESTS,
        name: "QuotaSpent",
        description: "The key has used up what it may: documents of the day, or requests of the minute; `violated-policies` names which. \
            Or the client, a key or without one an address, asks for more at once or in a minute than is its share",
        headers: &[
            ("retry-after", Type::Integer, "Seconds until the quota is new, or after which to try again"),
            ("ratelimit-policy", Type::String, "The key's limits (draft-ietf-httpapi-ratelimit-headers)"),
            ("ratelimit", Type::String, "What is left of them, and for how long"),
            ("x-ratelimit-limit", Type::Integer, "Documents a day, if they are limited"),
            ("x-ratelimit-remaining", Type::Integer, "Documents left today"),
            ("x-ratelimit-reset", Type::Integer, "When the quota is new, in seconds since 1970"),
        ],
        // Requests are counted by key, and by address where no key is shown.
        applies: |path, _| path.starts_with("/api/"),
    },
    Common {
        status: StatusCode::SERVICE_UNAVAILABLE,
        name: "Unavailable",
        description: "A part of the service is away (`part` names it), or it took too long",
        headers: &[("retry-after", Type::Integer, "Seconds after which to try again")],
        applies: |path, _| path.starts_with("/api/"),
    },
];

fn where_named(_: &str, _: &Operation) -> bool {
    false
}

fn takes_body(operation: &Operation) -> bool {
    operation.request_body.is_some()
}

fn has_parameter(operation: &Operation, place: &ParameterIn) -> bool {
    operation.parameters.iter().flatten().any(|p| matches!(p, RefOr::T(p) if p.parameter_in == *place))
}

/// Completes what the handlers' annotations say.
pub fn complete(api: &mut OpenApi) {
    for (path, item) in &mut api.paths.paths {
        for operation in operations(item) {
            complete_operation(path, operation);
        }
    }
    let components = api.components.get_or_insert_default();
    for common in COMMON {
        components.responses.insert(common.name.to_owned(), RefOr::T(response(common)));
    }
    for schema in components.schemas.values_mut() {
        show_all_members(schema);
    }
    one_selection(components);
    let key = ApiKey::Header(ApiKeyValue::with_description("X-Api-Key", "A key of `adit keys create`"));
    components.add_security_scheme("key", SecurityScheme::ApiKey(key));
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("The same key")).build();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
}

/// The operations at a path, of the methods that the API has.
fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.patch, &mut item.delete].into_iter().flatten()
}

fn complete_operation(path: &str, operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(own) = response else { continue };
        let common = COMMON.iter().find(|common| common.status.as_str() == status);
        match common {
            Some(common) if own.description.is_empty() => *response = RefOr::Ref(Ref::from_response_name(common.name)),
            _ if status.as_str() >= "400" && own.content.is_empty() => {
                own.content.insert(problem::MEDIA_TYPE.to_owned(), RefOr::T(problem_content()));
            }
            _ => {}
        }
    }
    if let Some(permission) = Permission::of(operation) {
        require_permission(operation, permission);
    }
    for common in COMMON {
        if (common.applies)(path, operation) {
            let known = operation.responses.responses.entry(common.status.as_str().to_owned());
            known.or_insert_with(|| RefOr::Ref(Ref::from_response_name(common.name)));
        }
    }
}

/// Says which scopes an operation needs, for people and for programs: OpenAPI 3.1 lets requirements
/// name the roles of a key.
fn require_permission(operation: &mut Operation, permission: Permission) {
    let scopes = permission.scopes();
    let sets: Vec<Vec<String>> = match scopes {
        [] => vec![Vec::new()],
        scopes => scopes.iter().map(|scope| vec![scope.to_string()]).collect(),
    };
    let forms = sets.iter().flat_map(|set| ["key", "bearer"].map(|form| SecurityRequirement::new(form, set.clone())));
    operation.security = match permission {
        Permission::Public => None,
        Permission::PublicOrOneOf(_) => Some([SecurityRequirement::default()].into_iter().chain(forms).collect()),
        Permission::AnyKey | Permission::OneOf(_) => Some(forms.collect()),
    };
    if !scopes.is_empty() {
        let names = join_scopes(scopes.iter().copied(), "` or `");
        let whose = if permission.needs_key() { "Needs a key with" } else { "A key that is shown needs" };
        let said = operation.description.take().filter(|text| !text.is_empty());
        operation.description =
            Some(said.into_iter().chain([format!("{whose} the scope `{names}`.")]).collect::<Vec<_>>().join("\n\n"));
    }
}

fn problem_content() -> Content {
    Content::new(Some(Ref::from_schema_name("Problem")))
}

fn response(common: &Common) -> Response {
    let header = |(name, kind, text): &(&str, Type, &str)| ((*name).to_owned(), RefOr::T(header(kind.clone(), text)));
    let mut response =
        ResponseBuilder::new().description(common.description).content(problem::MEDIA_TYPE, problem_content()).build();
    response.headers = common.headers.iter().map(header).collect();
    response
}

fn header(kind: Type, description: &str) -> Header {
    let schema = ObjectBuilder::new().schema_type(kind).build();
    HeaderBuilder::new().schema(Some(Schema::from(schema))).description(Some(description)).build()
}

/// Answers hold every member, null where there is nothing. They are told from requests by what these refuse: unknown members.
fn show_all_members(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object))
            if !matches!(object.additional_properties.as_deref(), Some(AdditionalProperties::FreeForm(false))) =>
        {
            object.required = object.properties.keys().cloned().collect();
        }
        RefOr::T(Schema::AllOf(all)) => all.items.iter_mut().for_each(show_all_members),
        _ => {}
    }
}

/// A docset is made of exactly one of three, which a struct cannot say; the others may be null.
fn one_selection(components: &mut Components) {
    let Some(members) = components.schemas.remove("DocsetRequest") else { return };
    let selections = [
        ("query", SchemaType::from_iter([Type::String, Type::Object])),
        ("refs", SchemaType::from(Type::Array)),
        ("from", SchemaType::from(Type::Object)),
    ];
    let mut one = OneOfBuilder::new();
    for (there, kind) in &selections {
        let mut only =
            ObjectBuilder::new().property(*there, ObjectBuilder::new().schema_type(kind.clone())).required(*there);
        for (absent, _) in selections.iter().filter(|(name, _)| name != there) {
            only = only.property(*absent, ObjectBuilder::new().schema_type(Type::Null));
        }
        one = one.item(only);
    }
    let request = AllOfBuilder::new().item(members).item(Schema::from(one.build()));
    components.schemas.insert("DocsetRequest".to_owned(), RefOr::T(Schema::from(request.build())));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    #[test]
    fn operations_have_names_of_their_own_and_responses_say_what_they_mean() {
        let api: Value = serde_json::from_str(&crate::openapi().to_json().unwrap()).unwrap();
        let mut names = BTreeSet::new();
        for (path, item) in api["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                assert!(names.insert(operation["operationId"].as_str().unwrap()), "{method} {path}");
                for (status, response) in operation["responses"].as_object().unwrap() {
                    let said = response["description"].as_str().is_some_and(|text| !text.is_empty());
                    assert!(said || response["$ref"].is_string(), "{method} {path} {status}");
                    let reference = response["$ref"].as_str().and_then(|target| target.strip_prefix('#'));
                    assert!(reference.is_none_or(|target| api.pointer(target).is_some()), "{method} {path} {status}");
                }
            }
        }
    }

    #[test]
    fn requests_refuse_unknown_members() {
        let api: Value = serde_json::from_str(&crate::openapi().to_json().unwrap()).unwrap();
        let mut requests = 0;
        for (path, item) in api["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let Some(body) = operation.get("requestBody") else { continue };
                let schema = &body["content"]["application/json"]["schema"];
                let schema = api.pointer(schema["$ref"].as_str().unwrap().trim_start_matches('#')).unwrap();
                let members = schema.pointer("/allOf/0").unwrap_or(schema);
                assert_eq!(members["additionalProperties"], false, "{method} {path}: it would need all its members");
                requests += 1;
            }
        }
        assert!(requests > 0);
    }

    #[test]
    fn answers_hold_all_members_and_requests_only_what_they_need() {
        let api: Value = serde_json::from_str(&crate::openapi().to_json().unwrap()).unwrap();
        let schemas = &api["components"]["schemas"];
        let package = &schemas["Package"];
        assert_eq!(package["required"].as_array().unwrap().len(), package["properties"].as_object().unwrap().len());
        assert_eq!(schemas["SearchRequest"]["required"], serde_json::json!(["query"]));
        assert_eq!(schemas["DocsetRequest"]["allOf"][1]["oneOf"].as_array().unwrap().len(), 3);
    }
}
