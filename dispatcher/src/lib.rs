//! webhookd: the dispatcher as a library.
