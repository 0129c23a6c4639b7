//! The page of an owner, for customers of the application: its settings, its colours, and the keys
//! of its sessions. Pure.
//!
//! **The problem.** An application wants to give each of its customers a page for their webhooks,
//! without a user management in webhookd, and inside its own pages.
//!
//! **The flow.** The application, which knows its customer, asks for a link
//! (`POST /v1/portal-links`, [`crate::portal_links`]) and sends the customer there, or embeds it.
//! The link shows a page with one button. Programs that follow links in messages send no form, so
//! they do not use the link up. The form begins the session: the database stores the hash of a new
//! key in the row of the link, and the browser is sent to `/portal/s/KEY`. Each request looks up
//! the key ([`key`]), and acts as the role and the owner of the link, as a token of this owner
//! would. The session ends with the link, or when its row is deleted. The daemon keeps nothing, so
//! sessions survive its restart, and any daemon of the database can serve them.
//!
//! **The pages** (`page/portal`) are the pages for operators, with fewer parts and other words.
//! They show no word about the daemon.

mod colour;
mod key;
mod settings;

pub use key::{LINKS, ROOT, SessionKey, is_link, is_portal, take_key};
pub use settings::{Invalid, LOGO_BYTES_MAX, PortalSettings};
