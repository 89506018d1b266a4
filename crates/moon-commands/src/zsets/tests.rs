//! What the comparison with a real server does not reach: effects, and what Redis 7.0 lacks.
