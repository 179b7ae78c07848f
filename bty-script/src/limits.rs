//! Resource limits of scripts.

use std::time::Duration;

/// Bounds on what one run of a script may use. Zero means unlimited, as in rhai.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Steps of the engine; each operator is one.
    pub operations: u64,
    /// Depth of nested function calls.
    pub call_levels: usize,
    /// Nesting of expressions, inside and outside functions.
    pub expression_depth: usize,
    /// Bytes of one string, and of all strings in one container.
    pub string_bytes: usize,
    /// Elements of an array, including those of nested arrays.
    pub array_len: usize,
    /// Entries of a map, including those of nested maps.
    pub map_len: usize,
    /// Variables in scope at one time.
    pub variables: usize,
    /// Modules that the script may import.
    pub modules: usize,
    /// Functions that the script defines.
    pub functions: usize,
    /// Wall-clock time, including time spent waiting; `None` means unlimited.
    pub time: Option<Duration>,
    /// Bytes by which the process may grow while the script runs.
    pub memory_bytes: u64,
}

impl Limits {
    /// Limits for scripts that a server runs, which only make decisions.
    #[must_use]
    pub fn server() -> Self {
        Self {
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

    /// Limits for scripts that people run on their own machine: unlimited time, 256 MiB of memory.
    #[must_use]
    pub fn operator() -> Self {
        Self {
            operations: 0,
            call_levels: 64,
            expression_depth: 128,
            // The engine would check container sizes on every change, which is slow; the memory
            // limit bounds them instead.
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

    /// Replaces the wall-clock limit.
    #[must_use]
    pub fn with_time(mut self, time: Option<Duration>) -> Self {
        self.time = time;
        self
    }

    pub(crate) fn apply(&self, engine: &mut rhai::Engine) {
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
