//! Error texts, where they come from, and who can catch them.

use crate::support::{eval_once, on_large_stack};

#[test]
fn try_it() {
    on_large_stack(|| {
        for body in [
            "return 1",
            "return 'x'",
            "return x",
            "x=1",
            "return cjson.decode('x')",
            "return redis.call('nope')",
            "error('x')",
            "error({err='A b'})",
            "return pcall(redis.call,'nope')",
            "return {pcall(cjson.decode,'x')}",
            "return cjson.encode({1,2,{a=1}})",
            "return {math.random(100),math.random(100),tostring(math.random()),math.random(5,10)}",
            "local function f() return f() + 1 end return f()",
            "return pairs(nil)",
            "return rawset(_G,'x',1)",
            "local t={} for k,v in pairs(_G) do t[#t+1]=k end table.sort(t) return table.concat(t, ' ')",
        ] {
            println!("{body}\n    {}", eval_once(body));
        }
    });
}
