//! Starting from what users have: dumps and logs of Redis, directories of earlier versions.
