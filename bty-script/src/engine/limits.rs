//! How much a script may use.

use std::time::Duration;

/// How much a script may use. Zero means without limit, as in rhai.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Steps of the engine.
    pub operations: u64,
    /// Functions that call each other.
    pub call_levels: usize,
    /// Nesting of expressions, in and outside functions.
    pub expression_depth: usize,
    /// Bytes of one string, and of all strings in one container.
    pub string_bytes: usize,
    /// Elements of an array, those of nested ones included.
    pub array_len: usize,
    /// Entries of a map, those of nested ones included.
    pub map_len: usize,
    /// Variables in scope.
    pub variables: usize,
    /// Modules that are imported.
    pub modules: usize,
    /// Functions that a script defines.
    pub functions: usize,
    /// Wall-clock time, waiting included.
    pub time: Option<Duration>,
    /// Memory that the process may grow by, in bytes.
    pub memory_bytes: u64,
}

impl Limits {
    /// For scripts that a server runs: they decide, and are quick.
    #[must_use]
    pub fn server() -> Self {
        Self {
            // an operator is a step of its own
            operations: 300_000,
            call_levels: 32,
            expression_depth: 64,
            string_bytes: 64 << 10,
            array_len: 4096,
            map_len: 1024,
            variables: 256,
            modules: 16,
            functions: 128,
            time: Some(Duration::from_millis(250)),
            memory_bytes: 32 << 20,
        }
    }

    /// For scripts that a person runs on a machine of their own: they may take all day, but not all
    /// of the memory.
    #[must_use]
    pub fn operator() -> Self {
        Self {
            operations: 0,
            call_levels: 64,
            expression_depth: 128,
            // checking these takes time with every change of a container: memory is watched instead
            string_bytes: 0,
            array_len: 0,
            map_len: 0,
            variables: 4096,
            modules: 256,
            functions: 4096,
            time: None,
            memory_bytes: 256 << 20,
        }
    }

    /// The same with another wall-clock limit.
    #[must_use]
    pub fn with_time(mut self, time: Option<Duration>) -> Self {
        self.time = time;
        self
    }

    pub(super) fn apply(&self, engine: &mut rhai::Engine) {
        engine.set_max_operations(self.operations);
        engine.set_max_call_levels(self.call_levels);
        engine.set_max_expr_depths(self.expression_depth, self.expression_depth);
        engine.set_max_string_size(self.string_bytes);
        engine.set_max_array_size(self.array_len);
        engine.set_max_map_size(self.map_len);
        engine.set_max_variables(self.variables);
        engine.set_max_modules(self.modules);
        engine.set_max_functions(self.functions);
    }
}
