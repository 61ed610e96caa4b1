//! From what a request says of a package to a recipe that can be made, and back. Packages are asked for in [`crate::resources::packages`].

use adit_shared::clock::rfc3339;
use adit_shared::domain::{About, Docset, Format, Layout, Options, Package, Recipe};
use adit_shared::ids::{DocsetId, PackageId, VersionId};
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::openapi::schema::{AdditionalProperties, KnownFormat, ObjectBuilder, OneOfBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::auth::Caller;
use crate::extract::{MAX_WHOLE, whole_not_null};
use crate::problem::{ApiResult, Kind, Problem};
use crate::resources::docsets;
use crate::state::App;

/// What a delta starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", try_from = "OneBase")]
pub enum DeltaFrom {
    /// A docset.
    Docset(DocsetId),
    /// The docset of a package.
    Package(PackageId),
}

/// The same as it stands in a request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OneBase {
    #[serde(default, deserialize_with = "whole_not_null")]
    docset: Option<u64>,
    #[serde(default, deserialize_with = "whole_not_null")]
    package: Option<u64>,
}

impl TryFrom<OneBase> for DeltaFrom {
    type Error = &'static str;

    fn try_from(base: OneBase) -> Result<Self, Self::Error> {
        match base {
            OneBase { docset: Some(id), package: None } => Ok(Self::Docset(DocsetId(id.cast_signed()))),
            OneBase { docset: None, package: Some(id) } => Ok(Self::Package(PackageId(id.cast_signed()))),
            _ => Err("name exactly one of docset and package"),
        }
    }
}

impl PartialSchema for DeltaFrom {
    fn schema() -> RefOr<Schema> {
        let either = |name: &str| {
            let id = ObjectBuilder::new()
                .schema_type(Type::Integer)
                .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
                .minimum(Some(1))
                .maximum(Some(MAX_WHOLE as f64));
            ObjectBuilder::new()
                .property(name, id)
                .required(name)
                .additional_properties(Some(AdditionalProperties::FreeForm(false)))
        };
        let one = OneOfBuilder::new().item(either("docset")).item(either("package"));
        RefOr::T(one.description(Some("What a delta starts from: a docset, or the docset of a package.")).into())
    }
}

impl ToSchema for DeltaFrom {}

/// A docset that a delta starts from.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) docset: Docset,
    /// Its members that the package has not which the delta starts from.
    pub(crate) lacking: RoaringBitmap,
}

/// What a request says of a package beside its formats, as it stands there.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    /// `flat` for none.
    pub(crate) layout: Option<String>,
    pub(crate) compression: Option<String>,
    pub(crate) shard_bytes: Option<u64>,
    pub(crate) dehydrated: bool,
    pub(crate) delta_from: Option<DeltaFrom>,
}

impl Choice {
    /// The recipe for a package of `docset`, and the docset that it starts from if it is a delta.
    pub(crate) async fn recipe(
        self,
        app: &App,
        caller: &Caller,
        docset: &Docset,
        formats: Vec<Format>,
    ) -> ApiResult<(Recipe, Option<Base>)> {
        let layout = self.layout.as_deref().unwrap_or(Layout::Flat.as_str()).parse()?;
        let compression = self.compression.as_deref().map(str::parse).transpose();
        let options = Options {
            compression: compression.map_err(|error: String| Problem::new(Kind::InvalidRequest, error))?,
            shard_bytes: self.shard_bytes,
            dehydrated: self.dehydrated,
            delta_from: None,
        };
        let mut recipe = Recipe { options, ..Recipe::new(formats, layout) };
        let base = match self.delta_from {
            Some(from) => Some(base(app, caller, docset, &recipe, from).await?),
            None => None,
        };
        recipe.options.delta_from = base.as_ref().map(|base| base.docset.id);
        recipe.check()?;
        Ok((recipe, base))
    }
}

/// The docset that a delta starts from.
async fn base(app: &App, caller: &Caller, docset: &Docset, recipe: &Recipe, from: DeltaFrom) -> ApiResult<Base> {
    let refuse = |detail: String| Problem::new(Kind::InvalidRecipe, detail);
    let (id, lacking) = match from {
        // Whatever package of it there is: it may have everything.
        DeltaFrom::Docset(id) => (id, RoaringBitmap::new()),
        DeltaFrom::Package(id) => {
            let package = app.store.package(id, caller.sees()).await?;
            let package = package.ok_or_else(|| Problem::not_found("package to make a delta from"))?;
            let Recipe { formats, layout, .. } = &package.recipe;
            if *layout != Layout::Bag {
                let detail = format!("delta_from names a package of layout {layout}, but a delta changes a bag");
                return Err(refuse(format!("{detail}; give a package of layout bag, or a docset")));
            }
            if *formats != recipe.formats {
                let names: Vec<&str> = formats.iter().map(Format::as_str).collect();
                let detail = format!("delta_from names a package of other formats ({})", names.join(","));
                return Err(refuse(format!("{detail}; ask for the same, or give a docset")));
            }
            (package.docset, app.store.clearance(package.id).await?.withheld())
        }
    };
    let base = docsets::readable(app, caller, id.0).await?;
    let base = base.ok_or_else(|| Problem::not_found("docset to make a delta from"))?;
    if base.collection != docset.collection {
        let (theirs, ours) = (&base.collection_slug, &docset.collection_slug);
        let detail = format!("delta_from names a docset of the collection {theirs}, but this one is of {ours}");
        return Err(refuse(format!("{detail}; give one of the same collection")));
    }
    Ok(Base { docset: base, lacking })
}

/// What a package of the docset says about itself if it is asked for now.
pub(crate) async fn about(app: &App, docset: &Docset) -> ApiResult<About> {
    let collection = app.store.collection_by_id(docset.collection).await?;
    let collection = collection.ok_or_else(|| Problem::not_found("collection"))?;
    // Ids rise from import to import, so the greatest is of the newest version.
    let imported = match docset.members.max() {
        Some(newest) => app.store.imported(VersionId(newest)).await?,
        None => None,
    };
    let instant = rfc3339(imported.unwrap_or(docset.created));
    let date = instant.split('T').next().unwrap_or(&instant).to_owned();
    Ok(About {
        collection: collection.slug,
        name: collection.name,
        description: collection.description,
        // An empty one says no more than none.
        license: collection.license.filter(|license| !license.is_empty()),
        tdm: collection.tdm,
        url: app.url("/api"),
        date,
    })
}

/// The request's body that asks for a package like this one.
pub(crate) fn body(package: &Package) -> Value {
    let Recipe { formats, layout, options } = &package.recipe;
    let mut body = json!({"formats": formats, "layout": layout});
    if let Value::Object(body) = &mut body {
        if let Some(compression) = options.compression {
            body.insert("compression".to_owned(), json!(compression));
        }
        if let Some(bytes) = options.shard_bytes {
            body.insert("shard_bytes".to_owned(), json!(bytes));
        }
        if options.dehydrated {
            body.insert("dehydrated".to_owned(), json!(true));
        }
        if let Some(docset) = options.delta_from {
            body.insert("delta_from".to_owned(), json!(DeltaFrom::Docset(docset)));
        }
    }
    body
}
