//! Scripts and functions that run whatever commands they are given, so that one of them does for
//! every workload.

/// Runs the commands in ARGV, each preceded by the number of its words, and returns what they answer;
/// an error of one is its answer and does not end the script, as in a transaction.
const RUN_ALL: &str = "\
local answers, at = {}, 1
while at <= #ARGV do
  local words = tonumber(ARGV[at])
  answers[#answers + 1] = redis.pcall(unpack(ARGV, at + 1, at + words))
  at = at + words + 1
end
return answers";

/// The name of the library.
pub const LIBRARY: &str = "harness";
/// The name of the function.
const FUNCTION: &[u8] = b"run_all";

/// `EVAL` of the script for `requests`, each a list of words, that use no key but `keys`.
#[must_use]
pub fn eval_all(keys: &[Vec<u8>], requests: &[Vec<Vec<u8>>]) -> Vec<Vec<u8>> {
    with_arguments(vec![b"EVAL".to_vec(), RUN_ALL.into()], keys, requests)
}

/// `FCALL` of the function for `requests`. Its library must have been [loaded](load_library).
#[must_use]
pub fn fcall_all(keys: &[Vec<u8>], requests: &[Vec<Vec<u8>>]) -> Vec<Vec<u8>> {
    with_arguments(vec![b"FCALL".to_vec(), FUNCTION.to_vec()], keys, requests)
}

/// `FUNCTION LOAD REPLACE` of the library with the function.
#[must_use]
pub fn load_library() -> Vec<Vec<u8>> {
    let code = format!(
        "#!lua name={LIBRARY}\n\
         redis.register_function('run_all', function(KEYS, ARGV)\n{RUN_ALL}\nend)"
    );
    let words: [&[u8]; 4] = [b"FUNCTION", b"LOAD", b"REPLACE", code.as_bytes()];
    words.map(<[u8]>::to_vec).to_vec()
}

fn with_arguments(
    mut words: Vec<Vec<u8>>,
    keys: &[Vec<u8>],
    requests: &[Vec<Vec<u8>>],
) -> Vec<Vec<u8>> {
    words.push(keys.len().to_string().into_bytes());
    words.extend(keys.iter().cloned());
    for request in requests {
        words.push(request.len().to_string().into_bytes());
        words.extend(request.iter().cloned());
    }
    words
}
