//! Webhooks as Standard Webhooks 1.0.0 wants them: what signs a message, and which addresses may be told anything at all.
//!
//! Nothing is sent here: that is for the process that runs watches, see `adit`.

mod guard;
mod secret;

pub use guard::{Guard, InvalidWebhook};
pub use secret::WebhookSecret;
