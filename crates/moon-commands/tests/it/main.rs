//! Commands from the outside: requests in, replies and effects out.

mod compared_with_redis;
mod documented_arguments;
mod dumped_forms;
mod dumped_values;
mod effects_of_commands;
mod effects_of_streams;
mod effects_of_values;
mod field_deadlines;
mod harness;
mod hyperloglogs;
mod keyspace_commands;
mod loaded_dumps;
mod notifications;
mod pair;
mod positions;
mod random_streams;
mod random_values;
mod redis;
mod replay_refusals;
mod replayed_effects;
