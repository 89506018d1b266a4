//! Error texts, where they come from, and who can catch them.
