//! bench placeholder
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {}
pub(crate) fn run(_: &Options) -> anyhow::Result<bool> {
    Ok(true)
}
