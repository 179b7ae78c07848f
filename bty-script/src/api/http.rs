//! `http`.

use bty::client::{Reply, Request};
use bty::{Error, ErrorKind};
use rhai::plugin::*;
use rhai::{Dynamic, Map, NativeCallContext};

use crate::context::{Capability, ScriptContext};
use crate::convert::{from_json, to_json};
use crate::error::{Outcome, raise};

fn exchange(context: &NativeCallContext<'_>, request: &Request<'_>) -> Outcome<Reply> {
    let host = ScriptContext::of(context, Capability::Network)?;
    host.world.web.exchange(request, &host.meter.operation()).map_err(raise)
}

/// The JSON of a successful answer; an empty one is `()`.
fn answer(url: &str, reply: &Reply) -> Outcome<Dynamic> {
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
    /// The JSON at `url`. Fails unless the answer has a status of 2xx. Redirects are not followed:
    /// only the named host is asked.
    #[rhai_fn(return_raw)]
    pub fn get_json(context: NativeCallContext, url: &str) -> Outcome<Dynamic> {
        let mut request = Request::get(url);
        request.accept = "application/json";
        answer(url, &exchange(&context, &request)?)
    }

    /// Sends `value` as JSON to `url`, and gives the JSON of the answer. Fails unless the answer
    /// has a status of 2xx. It is sent once.
    #[rhai_fn(return_raw)]
    pub fn post_json(context: NativeCallContext, url: &str, value: Dynamic) -> Outcome<Dynamic> {
        ScriptContext::behind(&context)?;
        let json = to_json(&value).map_err(|mut error| {
            error.set_position(context.call_position());
            error
        })?;
        answer(url, &exchange(&context, &Request::post_json(url, &json))?)
    }

    /// Asks `url` and gives any answer: `status`, `content_type`, `text`.
    #[rhai_fn(return_raw)]
    pub fn get(context: NativeCallContext, url: &str) -> Outcome<Map> {
        let reply = exchange(&context, &Request::get(url))?;
        let mut map = Map::new();
        map.insert("status".into(), i64::from(reply.status).into());
        map.insert("content_type".into(), reply.content_type.map_or(Dynamic::UNIT, Dynamic::from));
        map.insert("text".into(), String::from_utf8_lossy(&reply.body).into_owned().into());
        Ok(map)
    }
}
