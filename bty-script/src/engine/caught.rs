//! Completes errors of the language that a script catches: a wrong index, a missing function, an
//! overflow.
//!
//! The engine passes them to `catch` as maps without a `kind`, and has no hook to change that. They
//! get the missing fields when the variable of the `catch` is read.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use rhai::{AST, ASTNode, Dynamic, Expr, ImmutableString, Map, Stmt};

/// The names of the variables of all `catch` blocks that an engine has compiled. Clones share them.
#[derive(Clone, Default)]
pub(super) struct CatchVariables(Arc<Names>);

#[derive(Default)]
struct Names {
    /// Spares scripts without such a variable the lock, because every read of a variable asks.
    has_any: AtomicBool,
    names: RwLock<HashSet<String>>,
}

impl CatchVariables {
    /// Notes the variables in `ast`.
    pub(super) fn note(&self, ast: &AST) {
        ast.walk(&mut |path: &[ASTNode<'_>]| {
            if let Some(ASTNode::Stmt(Stmt::TryCatch(catch, _))) = path.last()
                && let Expr::Variable(variable, ..) = &catch.expr
            {
                let mut names = self.0.names.write().unwrap_or_else(PoisonError::into_inner);
                names.insert(variable.1.to_string());
                self.0.has_any.store(true, Ordering::Release);
            }
            true
        });
    }

    /// Has `engine` complete an error when its variable is read.
    #[allow(deprecated)] // how the engine marks functions that may change with its version
    pub(super) fn watch(self, engine: &mut rhai::Engine) {
        engine.on_var(move |name, _, mut context| {
            if self.has(name)
                && let Some(value) = context.scope_mut().get_mut(name)
            {
                complete(value);
            }
            Ok(None)
        });
    }

    fn has(&self, name: &str) -> bool {
        self.0.has_any.load(Ordering::Acquire)
            && self.0.names.read().unwrap_or_else(PoisonError::into_inner).contains(name)
    }
}

/// Adds the fields that scripts ask every caught error for, if `value` is an error of the language.
fn complete(value: &mut Dynamic) {
    let Some(mut fields) = value.write_lock::<Map>() else { return };
    let is_of_language = fields
        .get("error")
        .and_then(rhai::Dynamic::read_lock::<ImmutableString>)
        .is_some_and(|error| error.starts_with("Error"));
    if is_of_language && fields.contains_key("message") && !fields.contains_key("kind") {
        fields.insert("kind".into(), "script".into());
        fields.insert("has_written".into(), false.into());
    }
}
