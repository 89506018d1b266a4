//! What parses and what is refused.
