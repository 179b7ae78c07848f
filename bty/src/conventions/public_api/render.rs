//! Public items as lines of text.

use std::collections::{BTreeMap, BTreeSet};

use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{
    Attribute, Fields, Generics, Ident, ImplItem, Item, ItemImpl, Lifetime, LitStr, Signature,
    Token, TraitItem, Type, Visibility, braced,
};

/// Lines, sorted by the path that they describe.
#[derive(Default)]
pub(super) struct Lines(BTreeSet<(String, String)>);

impl Lines {
    pub(super) fn add(&mut self, path: &str, line: String) {
        self.0.insert((path.to_owned(), line));
    }

    pub(super) fn into_text(self) -> String {
        self.0.into_iter().map(|(_, line)| line + "\n").collect()
    }

    pub(super) fn add_item(&mut self, path: &str, item: &Item) {
        let line = match item {
            Item::Const(item) => format!("const {path}: {}", text(&item.ty)),
            Item::Static(item) => format!("static {path}: {}", text(&item.ty)),
            Item::Fn(item) => function(path, &item.sig),
            Item::Type(item) => {
                format!("type {path}{} = {}", generics(&item.generics), text(&item.ty))
            }
            Item::Struct(item) => {
                self.add_fields(path, &item.fields);
                let marks = marks(&item.attrs);
                format!("struct {path}{}{}{marks}", generics(&item.generics), tuple(&item.fields))
            }
            Item::Enum(item) => {
                for variant in &item.variants {
                    let path = format!("{path}::{}", variant.ident);
                    let line =
                        format!("{path}{}{}", content(&variant.fields), marks(&variant.attrs));
                    self.add(&path, line);
                }
                format!("enum {path}{}{}", generics(&item.generics), marks(&item.attrs))
            }
            Item::Trait(item) => {
                item.items.iter().for_each(|item| self.add_trait_item(path, item));
                let bounds = item.supertraits.iter().map(text).collect::<Vec<_>>().join(" + ");
                let colon = if bounds.is_empty() { "" } else { ": " };
                format!("trait {path}{}{colon}{bounds}", generics(&item.generics))
            }
            Item::Macro(item) => {
                let words = item.mac.parse_body::<StringEnum>().unwrap();
                for (variant, word) in words.variants {
                    let path = format!("{path}::{variant}");
                    self.add(&path, format!("{path} = {:?}", word.value()));
                }
                format!("enum {path}, of words")
            }
            _ => unreachable!("such an item has no name"),
        };
        self.add(path, line);
    }

    fn add_fields(&mut self, path: &str, fields: &Fields) {
        for field in fields {
            if let (Some(name), Visibility::Public(_)) = (&field.ident, &field.vis) {
                let path = format!("{path}::{name}");
                self.add(&path, format!("{path}: {}", text(&field.ty)));
            }
        }
    }

    fn add_trait_item(&mut self, path: &str, item: &TraitItem) {
        match item {
            TraitItem::Fn(item) => {
                let path = format!("{path}::{}", item.sig.ident);
                let provided = if item.default.is_some() { ", provided" } else { "" };
                self.add(&path, function(&path, &item.sig) + provided);
            }
            TraitItem::Const(item) => {
                let path = format!("{path}::{}", item.ident);
                self.add(&path, format!("const {path}: {}", text(&item.ty)));
            }
            TraitItem::Type(item) => {
                let path = format!("{path}::{}", item.ident);
                self.add(&path, format!("type {path}"));
            }
            _ => {}
        }
    }

    /// Adds the implementation `item`, if its type or its trait is among the public `names`.
    pub(super) fn add_impl(
        &mut self,
        item: &Item,
        names: &BTreeMap<String, String>,
        private: &BTreeSet<String>,
    ) {
        match item {
            Item::Impl(item) => match &item.trait_ {
                None => self.add_inherent(item, names),
                Some((_, of, _)) => {
                    let of_name = of.segments.last().unwrap().ident.to_string();
                    if !private.contains(&of_name) && !private.contains(&type_name(&item.self_ty)) {
                        self.add_trait_impl(item, &of_name, &text(of), names);
                    }
                }
            },
            Item::Macro(item) if item.mac.path.is_ident("setters") => {
                let setters = item.mac.parse_body::<Setters>().unwrap();
                let Some(owner) = names.get(&setters.name.to_string()) else { return };
                for (field, value) in setters.fields {
                    let path = format!("{owner}::{field}");
                    let line = format!("fn {path}(self, value: {}) -> Self", text(&value));
                    self.add(&path, line);
                }
            }
            _ => {}
        }
    }

    fn add_inherent(&mut self, item: &ItemImpl, names: &BTreeMap<String, String>) {
        let Some(owner) = names.get(&type_name(&item.self_ty)) else { return };
        let is_public = |visibility: &Visibility| matches!(visibility, Visibility::Public(_));
        for member in &item.items {
            match member {
                ImplItem::Fn(member) if is_public(&member.vis) => {
                    let path = format!("{owner}::{}", member.sig.ident);
                    self.add(&path, function(&path, &member.sig));
                }
                ImplItem::Const(member) if is_public(&member.vis) => {
                    let path = format!("{owner}::{}", member.ident);
                    self.add(&path, format!("const {path}: {}", text(&member.ty)));
                }
                _ => {}
            }
        }
    }

    fn add_trait_impl(
        &mut self,
        item: &ItemImpl,
        of_name: &str,
        of: &str,
        names: &BTreeMap<String, String>,
    ) {
        let type_text = text(&item.self_ty);
        let (owner, type_text) = match names.get(&type_name(&item.self_ty)) {
            Some(owner) => {
                let name = owner.rsplit("::").next().unwrap();
                (owner, type_text.replacen(name, owner, 1))
            }
            None => match names.get(of_name) {
                Some(owner) => (owner, type_text),
                None => return,
            },
        };
        let generics = generics(&item.generics);
        self.add(owner, format!("impl{generics} {of} for {type_text}"));
    }
}

/// `fn PATH(…) -> …`
fn function(path: &str, signature: &Signature) -> String {
    let name = format!("fn {}", signature.ident);
    let line = text(signature).replacen(&name, &format!("fn {path}"), 1);
    // callers do not see what the body does with it
    line.replacen("(mut self", "(self", 1)
}

/// The parameters and the conditions.
fn generics(generics: &Generics) -> String {
    let parameters = if generics.params.is_empty() {
        String::new()
    } else {
        let parameters: Vec<String> = generics.params.iter().map(text).collect();
        format!("<{}>", parameters.join(", "))
    };
    generics.where_clause.iter().fold(parameters, |all, clause| all + " " + &text(clause))
}

/// The types of a tuple struct: `_` for those that are private.
fn tuple(fields: &Fields) -> String {
    let Fields::Unnamed(fields) = fields else { return String::new() };
    let types = fields.unnamed.iter().map(|field| match field.vis {
        Visibility::Public(_) => text(&field.ty),
        _ => "_".to_owned(),
    });
    format!("({})", types.collect::<Vec<_>>().join(", "))
}

/// The fields of a variant.
fn content(fields: &Fields) -> String {
    let shown = fields.iter().map(|field| match &field.ident {
        Some(name) => format!("{name}: {}", text(&field.ty)),
        None => text(&field.ty),
    });
    let shown = shown.collect::<Vec<_>>().join(", ");
    match fields {
        Fields::Named(_) => format!(" {{ {shown} }}"),
        Fields::Unnamed(_) => format!("({shown})"),
        Fields::Unit => String::new(),
    }
}

/// The attributes that callers depend on.
fn marks(attributes: &[Attribute]) -> String {
    let kept = attributes.iter().filter(|attribute| {
        ["non_exhaustive", "derive"].iter().any(|name| attribute.path().is_ident(name))
    });
    kept.map(|attribute| format!(", {}", text(&attribute.meta))).collect()
}

/// The last name of a type, without references: `Image` of `&bty::Image`.
fn type_name(of: &Type) -> String {
    match of {
        Type::Path(path) => path.path.segments.last().unwrap().ident.to_string(),
        Type::Reference(reference) => type_name(&reference.elem),
        _ => String::new(),
    }
}

/// The source text of `node`, in one line.
fn text(node: &impl Spanned) -> String {
    let source = node.span().source_text().expect("it was parsed of a file");
    let line = source.split_whitespace().collect::<Vec<_>>().join(" ");
    [("( ", "("), (", )", ")"), ("< ", "<"), (", >", ">")]
        .iter()
        .fold(line, |line, (wide, narrow)| line.replace(wide, narrow))
}

/// The body of `string_enum!`.
pub(super) struct StringEnum {
    pub(super) name: Ident,
    variants: Vec<(Ident, LitStr)>,
}

impl Parse for StringEnum {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        input.call(Attribute::parse_outer)?;
        input.parse::<Visibility>()?;
        input.parse::<Token![enum]>()?;
        let name = input.parse()?;
        input.parse::<Token![:]>()?;
        input.parse::<LitStr>()?;
        let body;
        braced!(body in input);
        let variant = |input: ParseStream<'_>| {
            input.call(Attribute::parse_outer)?;
            let name = input.parse()?;
            input.parse::<Token![=]>()?;
            Ok((name, input.parse()?))
        };
        let variants = Punctuated::<_, Token![,]>::parse_terminated_with(&body, variant)?;
        Ok(Self { name, variants: variants.into_iter().collect() })
    }
}

/// The body of `setters!`.
struct Setters {
    name: Ident,
    fields: Vec<(Ident, Type)>,
}

impl Parse for Setters {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        input.call(Attribute::parse_outer)?;
        let name = input.parse()?;
        if input.peek(Token![<]) {
            input.parse::<Token![<]>()?;
            input.parse::<Lifetime>()?;
            input.parse::<Token![>]>()?;
        }
        let body;
        braced!(body in input);
        let field = |input: ParseStream<'_>| {
            let name = input.parse()?;
            input.parse::<Token![:]>()?;
            Ok((name, input.parse()?))
        };
        let fields = Punctuated::<_, Token![,]>::parse_terminated_with(&body, field)?;
        Ok(Self { name, fields: fields.into_iter().collect() })
    }
}
