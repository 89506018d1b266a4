//! Libraries as data, and how loading them fails.

use crate::support::{TestHost, on_large_stack};
use moon_resp::{Protocol, Reply};
use moon_script::{Engine, Flags, LibraryError, Limits, RunError, Stop};

fn engine() -> (Engine, TestHost) {
    let engine = Engine::new(Limits::default()).expect("an engine");
    (engine, TestHost::default())
}

fn call(engine: &mut Engine, host: &mut TestHost, name: &str) -> Result<Vec<u8>, RunError> {
    let mut out = Vec::new();
    let mut reply = Reply::new(&mut out, Protocol::Resp2);
    let keys = [b"k1".as_slice(), b"k2"];
    engine.call(name, keys, [b"a".as_slice()], host, &mut reply)?;
    Ok(out)
}

const LIBRARY: &[u8] = b"#!lua name=lib
redis.register_function{function_name='second', callback=function(keys, args)
    return {keys[2], args[1]} end, flags={'no-writes', 'allow-stale'}, description='twice'}
redis.register_function('first', function() return redis.call('get', 'none') end)";

#[test]
fn a_library_is_listed_called_and_deleted() {
    on_large_stack(|| {
        let (mut engine, mut host) = engine();
        let name = engine
            .load_library(LIBRARY, false, &mut host)
            .expect("loaded");
        assert_eq!(name, "lib");
        let library = engine.library("lib").expect("listed");
        assert_eq!(library.code, LIBRARY);
        let names: Vec<_> = library.functions.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["first", "second"]);
        let second = engine.function("second").expect("known");
        assert_eq!(second.description.as_deref(), Some(b"twice".as_slice()));
        let flags = Flags::NO_WRITES.union(Flags::ALLOW_STALE);
        assert_eq!(second.flags, flags);
        assert_eq!(
            flags.names().collect::<Vec<_>>(),
            ["no-writes", "allow-stale"]
        );
        let reply = call(&mut engine, &mut host, "second").expect("called");
        assert_eq!(reply, b"*2\r\n$2\r\nk2\r\n$1\r\na\r\n");
        assert_eq!(
            call(&mut engine, &mut host, "first").expect("called"),
            b"$-1\r\n"
        );
        assert_eq!(engine.function_count(), 2);
        assert!(engine.delete_library("lib").is_some());
        assert!(engine.delete_library("lib").is_none());
        assert_eq!(
            call(&mut engine, &mut host, "first"),
            Err(RunError::NotFound)
        );
    });
}

#[test]
fn a_library_that_fails_to_load_changes_nothing() {
    on_large_stack(|| {
        let (mut engine, mut host) = engine();
        engine
            .load_library(LIBRARY, false, &mut host)
            .expect("loaded");
        let before: Vec<_> = engine.libraries().cloned().collect();
        for code in [
            "#!lua name=lib\nredis.register_function('first', function() end) local x = nil + 1",
            "#!lua name=lib\nx x",
            "#!lua name=lib\n",
            "#!lua name=other\nredis.register_function('first', function() end)",
            "#!lua name=other\nredis.register_function('new', function() end) local x = {} .. 1",
        ] {
            let failed = engine.load_library(code.as_bytes(), true, &mut host);
            assert!(failed.is_err(), "{code}");
            assert!(engine.libraries().eq(&before), "{code}");
            assert_eq!(
                call(&mut engine, &mut host, "first").expect("called"),
                b"$-1\r\n"
            );
            assert_eq!(call(&mut engine, &mut host, "new"), Err(RunError::NotFound));
        }
    });
}

#[test]
fn loading_ends_when_the_host_says_so() {
    on_large_stack(|| {
        let (mut engine, mut host) = engine();
        host.patience = Some(1);
        host.stop = Some(Stop::LoadTimeout);
        let code =
            b"#!lua name=lib\nredis.register_function('f', function() end) while true do end";
        let failed = engine
            .load_library(code, false, &mut host)
            .expect_err("stopped");
        let expected = LibraryError::Register {
            text: "ERR FUNCTION LOAD timeout".to_owned(),
            stop: Some(Stop::LoadTimeout),
        };
        assert_eq!(failed, expected);
        assert_eq!(engine.libraries().len(), 0);
        host.patience = None;
        engine
            .load_library(LIBRARY, false, &mut host)
            .expect("loaded");
    });
}

#[test]
fn scripts_and_functions_do_not_see_each_other() {
    on_large_stack(|| {
        let (mut engine, mut host) = engine();
        let code = b"#!lua name=lib
redis.register_function('keys', function() return loadstring('return KEYS')() end)
redis.register_function('name', function() return redis.breakpoint == nil end)";
        engine.load_library(code, false, &mut host).expect("loaded");
        let sha = engine.load(b"return KEYS[1]").expect("loaded");
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, Protocol::Resp2);
        let ran = engine.run(&sha, [b"k".as_slice()], [], &mut host, &mut reply);
        assert_eq!(ran, Ok(()));
        assert_eq!(out, b"$1\r\nk\r\n");
        let failed = call(&mut engine, &mut host, "keys").expect_err("no such global");
        let text = String::from_utf8_lossy(failed.text()).into_owned();
        assert!(
            text.contains("nonexistent global variable 'KEYS'"),
            "{text}"
        );
        assert_eq!(
            call(&mut engine, &mut host, "name").expect("called"),
            b":1\r\n"
        );
        engine.flush();
        assert_eq!(engine.function_count(), 2, "SCRIPT FLUSH leaves functions");
        engine.flush_libraries();
        assert_eq!(engine.function_count(), 0);
    });
}
