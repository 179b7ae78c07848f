//! Finds fields that a value of one of bty's types does not have, and unknown keys of option maps.
//!
//! Types are followed only as far as they are certain: from functions with one result type, through
//! variables that are assigned once, loops, and closures passed to functions of arrays.

use std::collections::HashMap;

use rhai::{AST, ASTFlags, ASTNode, Expr, FnCallExpr, FnPtr, Position, Stmt};

use crate::api::{OPTION_MAPS, OptionMap, TYPES};
use crate::reference::{self, Function, FunctionKind};

/// Types of variables by name; `None` if a variable has more than one type or an unknown one.
type Variables = HashMap<String, Option<String>>;

/// A finding, and where it is.
pub(super) struct Mistake {
    pub(super) message: String,
    pub(super) hint: Option<String>,
    pub(super) position: Position,
}

/// Functions of arrays whose callbacks get items, and that return an array of the same items or
/// not.
const ITEM_CALLBACKS: [(&str, bool); 14] = [
    ("filter", true),
    ("order", true),
    ("order_by", true),
    ("drain", true),
    ("retain", true),
    ("sort", false),
    ("sort_by", false),
    ("map", false),
    ("find", false),
    ("find_map", false),
    ("index_of", false),
    ("some", false),
    ("all", false),
    ("dedup", false),
];

/// Finds the mistakes in a script. `known` are the functions of the engine.
pub(super) fn find(ast: &AST, known: &[Function]) -> Vec<Mistake> {
    let mut checker = Checker { ast, known, closures: HashMap::new(), mistakes: Vec::new() };
    let mut statements = ast.clone();
    statements.clear_functions();
    checker.unit(&statements, Variables::new());
    let named = ast.iter_functions().filter(|f| !f.name.starts_with("anon$"));
    for function in named {
        checker.function(function.name, Variables::new());
    }
    // a closure is found while the code around it is checked, and may contain more of them
    while let Some(name) = checker.closures.keys().next().cloned() {
        let variables = checker.closures.remove(&name).unwrap_or_default();
        checker.function(&name, variables);
    }
    checker.mistakes
}

struct Checker<'a> {
    ast: &'a AST,
    known: &'a [Function],
    /// Closures to check, with the types of their parameters.
    closures: HashMap<String, Variables>,
    mistakes: Vec<Mistake>,
}

/// How the next element of a chain such as `a.b[c]` is reached.
#[derive(Clone, Copy)]
enum Step {
    Dot,
    Index,
}

impl Checker<'_> {
    fn function(&mut self, name: &str, variables: Variables) {
        // not `clone_functions_only_filtered`, which rhai 1.27 does not filter
        let mut alone = self.ast.clone();
        alone.clear_statements();
        alone.retain_functions(|_, _, found, _| found == name);
        self.unit(&alone, variables);
    }

    /// Checks statements that share their variables.
    fn unit(&mut self, ast: &AST, mut variables: Variables) {
        ast.walk(&mut |path: &[ASTNode<'_>]| {
            if let Some(ASTNode::Stmt(stmt)) = path.last() {
                self.collect(stmt, &mut variables);
            }
            true
        });
        ast.walk(&mut |path: &[ASTNode<'_>]| {
            let call = match path.last() {
                Some(ASTNode::Stmt(Stmt::Switch(switch, position))) => {
                    self.switch(&switch.0, *position, &variables);
                    None
                }
                Some(ASTNode::Expr(expr @ (Expr::Dot(..) | Expr::Index(..)))) => {
                    self.chain(expr, &variables);
                    None
                }
                Some(
                    ASTNode::Expr(Expr::FnCall(call, _)) | ASTNode::Stmt(Stmt::FnCall(call, _)),
                ) => Some(call),
                _ => None,
            };
            if let Some(call) = call {
                self.call(call);
            }
            true
        });
    }

    /// Notes the type of the variable that a statement defines or changes.
    fn collect(&self, stmt: &Stmt, variables: &mut Variables) {
        let (name, kind) = match stmt {
            Stmt::Var(var, ..) => (var.0.name.to_string(), self.infer(&var.1, variables)),
            Stmt::For(parts, _) => {
                let items = self.infer(&parts.2.expr, variables);
                (parts.0.name.to_string(), items.as_deref().and_then(item_type).map(str::to_owned))
            }
            Stmt::Assignment(assignment) => match &assignment.1.lhs {
                Expr::Variable(variable, ..) => {
                    (variable.1.to_string(), self.infer(&assignment.1.rhs, variables))
                }
                _ => return,
            },
            _ => return,
        };
        let differs = variables.get(&name).is_some_and(|earlier| *earlier != kind);
        variables.insert(name, kind.filter(|_| !differs));
    }

    /// The type of an expression, if it is certain.
    fn infer(&self, expr: &Expr, variables: &Variables) -> Option<String> {
        match expr {
            Expr::Variable(variable, ..) => variables.get(variable.1.as_str()).cloned().flatten(),
            Expr::FnCall(call, _) if call.op_token.is_some() => self.operation(call, variables),
            Expr::FnCall(call, _) => {
                let module = call.namespace.to_string();
                let is_own = self.ast.iter_functions().any(|f| f.name == call.name);
                (!is_own || !module.is_empty()).then(|| {
                    self.result(|f| {
                        f.kind == FunctionKind::Function
                            && f.module == module.trim_end_matches("::")
                            && f.name == call.name
                            && f.params.len() == call.args.len()
                    })
                })?
            }
            Expr::Dot(pair, ..) | Expr::Index(pair, ..) => {
                let base = self.infer(&pair.lhs, variables)?;
                steps(expr)
                    .into_iter()
                    .try_fold(base, |kind, (step, element)| self.element(&kind, step, element))
            }
            _ => None,
        }
    }

    /// The type of a calculation with a size, if it is a size for sure. A negative result is a
    /// number, but `switch` does not match that either.
    fn operation(&self, call: &FnCallExpr, variables: &Variables) -> Option<String> {
        let [left, right] = &call.args[..] else { return None };
        let is_size = |side| self.infer(side, variables).as_deref() == Some("Size");
        let is_number =
            |side: &Expr| matches!(side, Expr::IntegerConstant(..) | Expr::FloatConstant(..));
        let gives_size = match call.name.as_str() {
            "*" | "-" => is_size(left) || is_size(right),
            "+" => {
                is_size(left) && (is_number(right) || is_size(right))
                    || is_number(left) && is_size(right)
            }
            "/" => is_size(left) && is_number(right),
            "%" => is_size(left),
            _ => false,
        };
        gives_size.then(|| "Size".to_owned())
    }

    /// The result type that all functions selected by `is_meant` have.
    fn result(&self, is_meant: impl Fn(&Function) -> bool) -> Option<String> {
        let mut types = self.known.iter().filter(|f| is_meant(f)).map(|f| f.returns.as_str());
        let first = without_unit(types.next()?);
        types.all(|kind| without_unit(kind) == first).then(|| first.to_owned())
    }

    /// The type of an element of a value of type `kind`.
    fn element(&self, kind: &str, step: Step, element: &Expr) -> Option<String> {
        match (step, element) {
            (Step::Index, _) => item_type(kind).map(str::to_owned),
            (Step::Dot, Expr::Property(property, _)) => self.result(|f| {
                f.kind == FunctionKind::Field && is_of(f, kind) && f.name == property.2
            }),
            (Step::Dot, Expr::MethodCall(call, _)) if item_type(kind).is_some() => {
                let name = call.name.as_str();
                let keeps = ITEM_CALLBACKS.iter().any(|(known, keeps)| *known == name && *keeps);
                keeps.then(|| kind.to_owned())
            }
            (Step::Dot, Expr::MethodCall(call, _)) => self.result(|f| {
                f.kind == FunctionKind::Method
                    && is_of(f, kind)
                    && f.name == call.name
                    && f.params.len() == call.args.len() + 1
            }),
            _ => None,
        }
    }

    /// Checks the fields in a chain such as `disks()[0].serial`, and finds closures for its items.
    fn chain(&mut self, expr: &Expr, variables: &Variables) {
        let (Expr::Dot(pair, ..) | Expr::Index(pair, ..)) = expr else { return };
        let Some(mut kind) = self.infer(&pair.lhs, variables) else { return };
        for (step, element) in steps(expr) {
            match (step, element) {
                (Step::Dot, Expr::Property(property, position))
                    if has_fields(&kind) && !self.has_field(&kind, &property.2) =>
                {
                    return self.unknown_field(&kind, &property.2, *position);
                }
                (Step::Dot, Expr::MethodCall(call, _)) => {
                    if let Some(item) = item_type(&kind) {
                        self.closure(call, item, variables);
                    }
                }
                _ => {}
            }
            let Some(next) = self.element(&kind, step, element) else { return };
            kind = next;
        }
    }

    fn has_field(&self, kind: &str, name: &str) -> bool {
        self.known.iter().any(|f| f.kind == FunctionKind::Field && is_of(f, kind) && f.name == name)
    }

    fn unknown_field(&mut self, kind: &str, name: &str, position: Position) {
        let fields = self.known.iter().filter(|f| f.kind == FunctionKind::Field && is_of(f, kind));
        let close = reference::closest(name, fields.map(|f| f.name.as_str()));
        let hint = close.map_or_else(
            || format!("bty docs {kind} lists its fields"),
            |close| format!("did you mean {close}?"),
        );
        let message = format!("{kind} has no field {name}");
        self.mistakes.push(Mistake { message, hint: Some(hint), position });
    }

    /// Notes the types of the parameters of a closure that gets items of an array.
    fn closure(&mut self, call: &FnCallExpr, item: &str, variables: &Variables) {
        if !ITEM_CALLBACKS.iter().any(|(name, _)| *name == call.name) {
            return;
        }
        let Some(Expr::DynamicConstant(value, _)) = call.args.first() else { return };
        let Some(pointer) = value.read_lock::<FnPtr>() else { return };
        let params =
            self.ast.iter_functions().find(|f| f.name == pointer.fn_name()).map(|f| f.params);
        let takes_two_items = call.name.starts_with("sort") || call.name.starts_with("order");
        let mut types = variables.clone();
        for (index, param) in params.into_iter().flatten().enumerate() {
            let is_item = index == 0 || takes_two_items || call.name == "dedup";
            types.insert(param.to_owned(), is_item.then(|| item.to_owned()));
        }
        self.closures.insert(pointer.fn_name().to_owned(), types);
    }

    /// Finds `switch` on a size. No case ever equals it.
    fn switch(&mut self, subject: &Expr, position: Position, variables: &Variables) {
        if self.infer(subject, variables).as_deref() == Some("Size") {
            let (message, hint) = super::types::switch_on_size();
            self.mistakes.push(Mistake { message, hint, position });
        }
    }

    /// Checks the keys of maps that are written as arguments of a function of bty.
    fn call(&mut self, call: &FnCallExpr) {
        let module = call.namespace.to_string();
        let module = module.trim_end_matches("::");
        if module.is_empty() && self.ast.iter_functions().any(|f| f.name == call.name) {
            return;
        }
        let is_meant = |map: &&OptionMap| map.module == module && map.function == call.name;
        for OptionMap { argument, noun, keys, .. } in OPTION_MAPS.iter().filter(is_meant) {
            let Some(Expr::Map(map, _)) = call.args.get(*argument) else { continue };
            for (key, _) in &map.0 {
                if keys.contains(&key.name.as_str()) {
                    continue;
                }
                let close = reference::closest(&key.name, keys.iter().copied());
                let hint = close.map_or_else(
                    || format!("the keys are {}", keys.join(", ")),
                    |close| format!("did you mean {close}?"),
                );
                self.mistakes.push(Mistake {
                    message: format!("unknown {} {} of {}", noun, key.name, call.name),
                    hint: Some(hint),
                    position: key.pos,
                });
            }
        }
    }
}

/// The elements after the first one of a chain, and how each is reached.
fn steps(expr: &Expr) -> Vec<(Step, &Expr)> {
    let mut found = Vec::new();
    let mut node = expr;
    loop {
        let (step, pair, flags) = match node {
            Expr::Dot(pair, flags, _) => (Step::Dot, pair, flags),
            Expr::Index(pair, flags, _) => (Step::Index, pair, flags),
            _ => return found,
        };
        // the right side is the rest of the chain, or a single element that ends it
        match &pair.rhs {
            Expr::Dot(rest, ..) | Expr::Index(rest, ..) if !flags.contains(ASTFlags::BREAK) => {
                found.push((step, &rest.lhs));
                node = &pair.rhs;
            }
            last => {
                found.push((step, last));
                return found;
            }
        }
    }
}

/// True for bty's types: other values, such as maps, may have any field.
fn has_fields(kind: &str) -> bool {
    TYPES.iter().any(|(name, _)| *name == kind)
}

fn is_of(function: &Function, kind: &str) -> bool {
    function.params.first().is_some_and(|(_, of)| of == kind)
}

/// The type of the items of an array type.
fn item_type(kind: &str) -> Option<&str> {
    kind.strip_prefix('[')?.strip_suffix(']')
}

/// The type of a result that may also be `()`.
fn without_unit(kind: &str) -> &str {
    kind.trim_end_matches(" | ()")
}
