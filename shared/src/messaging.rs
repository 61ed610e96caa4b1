//! Messaging over STOMP.
