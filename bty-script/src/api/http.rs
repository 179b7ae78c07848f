//! The module `http`.

use bty::client::{Reply, Request};
use bty::{Error, ErrorKind};
use rhai::plugin::*;
use rhai::{Dynamic, Map, NativeCallContext};

use crate::context::{Capability, ScriptContext};
use crate::convert::{from_json, to_json};
use crate::error::{CallResult, raise};

fn exchange(call: &NativeCallContext<'_>, request: &Request<'_>) -> CallResult<Reply> {
    let context = ScriptContext::require(call, Capability::Network)?;
    context.world.web.exchange(request, &context.meter.operation()).map_err(raise)
}

/// The JSON body of a successful response; `()` if the body is empty.
fn answer(url: &str, reply: &Reply) -> CallResult<Dynamic> {
    if !reply.is_success() {
        let message = format!("{url} answered {}: {}", reply.status, reply.excerpt());
        return Err(raise(Error::new(ErrorKind::Source, message).with_path(url)));
    }
    if reply.body.is_empty() {
        return Ok(Dynamic::UNIT);
    }
    let json =
        reply.json().map_err(|e| raise(e.context(format!("asking {url}")).with_path(url)))?;
    Ok(from_json(&json, false))
}

#[export_module]
pub(super) mod functions {
    /// Gets the JSON at `url`. Fails unless the status is 2xx. Redirects are not followed.
    #[rhai_fn(return_raw)]
    pub fn get_json(call: NativeCallContext, url: &str) -> CallResult<Dynamic> {
        let mut request = Request::get(url);
        request.accept = "application/json";
        answer(url, &exchange(&call, &request)?)
    }

    /// Posts `value` as JSON to `url`, and returns the JSON of the response. Fails unless the
    /// status is 2xx. The request is never repeated.
    #[rhai_fn(return_raw)]
    pub fn post_json(call: NativeCallContext, url: &str, value: Dynamic) -> CallResult<Dynamic> {
        ScriptContext::from_call(&call)?;
        let json = to_json(&value).map_err(|mut error| {
            error.set_position(call.call_position());
            error
        })?;
        answer(url, &exchange(&call, &Request::post_json(url, &json))?)
    }

    /// Gets `url`, and returns the response whatever its status: a map with `status`,
    /// `content_type`, `text`.
    #[rhai_fn(return_raw)]
    pub fn get(call: NativeCallContext, url: &str) -> CallResult<Map> {
        let reply = exchange(&call, &Request::get(url))?;
        let mut map = Map::new();
        map.insert("status".into(), i64::from(reply.status).into());
        map.insert("content_type".into(), reply.content_type.map_or(Dynamic::UNIT, Dynamic::from));
        map.insert("text".into(), String::from_utf8_lossy(&reply.body).into_owned().into());
        Ok(map)
    }
}
