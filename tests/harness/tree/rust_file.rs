//! One Rust file, read far enough to be judged: the paths it uses, its functions with their docs,
//! and which of its lines are code.
//!
//! *Invariants*
//! 1. Comments and string literals are never mistaken for code: all is read from tokens.
//! 2. Nested `use` lists are written out: `std::{sync::Mutex}` is the path `std::sync::Mutex`.
//! 3. Macro arguments are read like any other tokens.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// A path as it is written in code, `use` lists written out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedPath {
    /// Its segments.
    pub segments: Vec<String>,
    /// Where its last segment stands, from 1.
    pub line: usize,
}

/// A function with a body, or one that a trait asks for.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// From `fn` to the closing brace.
    pub lines: RangeInclusive<usize>,
    /// Declared `pub`, no narrower, and not hidden from the docs.
    pub public: bool,
    /// Declared `async`.
    pub asynchronous: bool,
    /// Returns a `Result`, at once or as a future's output.
    pub fallible: bool,
    /// `true` for a method with `self`.
    pub method: bool,
    /// Its doc comment.
    pub docs: String,
}

/// A parsed file.
#[derive(Debug)]
pub struct RustFile {
    /// From the root of the tree, with `/`.
    pub path: String,
    /// All of it.
    pub text: String,
    /// The module's own doc comment (`//!`).
    pub docs: String,
    /// Every path in code, in order.
    pub paths: Vec<UsedPath>,
    /// Every attribute's first word and the line it stands on; a `cfg_attr` is opened.
    pub attributes: Vec<(String, usize)>,
    /// Every function, tests too.
    pub functions: Vec<Function>,
    /// Names of the enums declared outside tests.
    pub enums: Vec<String>,
    /// Names of the test modules that stand in files of their own.
    pub test_files: Vec<String>,
    /// The file belongs to a test module that another file declares.
    pub declared_test: bool,
    /// Lines that hold code, without comments, blanks and test modules.
    pub code_lines: usize,
    test_modules: Vec<RangeInclusive<usize>>,
}

impl RustFile {
    /// Reads a file.
    ///
    /// # Panics
    ///
    /// When the text is not Rust.
    #[must_use]
    pub fn parse(path: &str, text: &str) -> Self {
        let syntax = syn::parse_file(text).unwrap_or_else(|error| {
            let line = error.span().start().line;
            panic!("{path}:{line}: not Rust: {error}")
        });
        let tokens: TokenStream = text
            .parse()
            .expect("what parses as a file splits into tokens");

        let mut items = Items::default();
        items.visit_file(&syntax);
        let mut scan = Scan {
            source: text.lines().collect(),
            lines: BTreeSet::new(),
            paths: Vec::new(),
            attributes: Vec::new(),
        };
        scan.stream(tokens, &[]);
        let in_tests = |line: &usize| items.test_modules.iter().any(|range| range.contains(line));
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            docs: docs_of(&syntax.attrs),
            code_lines: scan.lines.iter().filter(|line| !in_tests(line)).count(),
            paths: scan.paths,
            attributes: scan.attributes,
            functions: items.functions,
            enums: items.enums,
            test_files: items.test_files,
            declared_test: false,
            test_modules: items.test_modules,
        }
    }

    /// The folder in which the files of this module's submodules stand.
    #[must_use]
    pub fn submodule_folder(&self) -> &str {
        let whole = self.path.trim_end_matches(".rs");
        ["/mod", "/lib", "/main"]
            .iter()
            .find_map(|root| whole.strip_suffix(root))
            .unwrap_or(whole)
    }

    /// Whether a line belongs to a test: a test module, or a file of a `tests` folder.
    #[must_use]
    pub fn is_test(&self, line: usize) -> bool {
        self.declared_test
            || self.path.split('/').any(|folder| folder == "tests")
            || self.test_modules.iter().any(|range| range.contains(&line))
    }
}

/// What the syntax tree tells.
#[derive(Default)]
struct Items {
    functions: Vec<Function>,
    enums: Vec<String>,
    test_files: Vec<String>,
    test_modules: Vec<RangeInclusive<usize>>,
    /// How many hidden modules, test modules or trait implementations stand around.
    private_depth: usize,
}

impl Items {
    fn function(&mut self, attrs: &[syn::Attribute], public: bool, parts: FunctionParts<'_>) {
        let lines = parts.signature.span().start().line..=parts.end;
        let returned = match &parts.signature.output {
            syn::ReturnType::Default => TokenStream::new(),
            syn::ReturnType::Type(_, returned) => quote::ToTokens::to_token_stream(returned),
        };
        self.functions.push(Function {
            name: parts.signature.ident.to_string(),
            lines,
            public: public && self.private_depth == 0 && !is_hidden(attrs),
            asynchronous: parts.signature.asyncness.is_some(),
            fallible: is_result(returned),
            method: parts.signature.receiver().is_some(),
            docs: docs_of(attrs),
        });
    }
}

struct FunctionParts<'a> {
    signature: &'a syn::Signature,
    end: usize,
}

impl<'a> Visit<'a> for Items {
    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        let is_test = item.attrs.iter().any(is_cfg_test);
        if is_test && item.content.is_none() {
            self.test_files.push(item.ident.to_string());
        }
        if is_test {
            let last = item.span().end().line;
            let first = item
                .attrs
                .first()
                .map_or(last, |attr| attr.span().start().line);
            self.test_modules.push(first..=last);
        }
        let private = usize::from(is_test || is_hidden(&item.attrs));
        self.private_depth += private;
        visit::visit_item_mod(self, item);
        self.private_depth -= private;
    }

    fn visit_item_impl(&mut self, item: &'a syn::ItemImpl) {
        let private = usize::from(item.trait_.is_some());
        self.private_depth += private;
        visit::visit_item_impl(self, item);
        self.private_depth -= private;
    }

    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        let end = item.block.span().end().line;
        let public = matches!(item.vis, syn::Visibility::Public(_));
        self.function(
            &item.attrs,
            public,
            FunctionParts {
                signature: &item.sig,
                end,
            },
        );
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        let end = item.block.span().end().line;
        let public = matches!(item.vis, syn::Visibility::Public(_));
        self.function(
            &item.attrs,
            public,
            FunctionParts {
                signature: &item.sig,
                end,
            },
        );
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_item_trait(&mut self, item: &'a syn::ItemTrait) {
        let public = matches!(item.vis, syn::Visibility::Public(_)) && !is_hidden(&item.attrs);
        let private = usize::from(!public);
        self.private_depth += private;
        visit::visit_item_trait(self, item);
        self.private_depth -= private;
    }

    fn visit_trait_item_fn(&mut self, item: &'a syn::TraitItemFn) {
        let end = item.span().end().line;
        self.function(
            &item.attrs,
            true,
            FunctionParts {
                signature: &item.sig,
                end,
            },
        );
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_enum(&mut self, item: &'a syn::ItemEnum) {
        self.enums.push(item.ident.to_string());
    }
}

/// What the tokens tell.
struct Scan<'a> {
    source: Vec<&'a str>,
    lines: BTreeSet<usize>,
    paths: Vec<UsedPath>,
    attributes: Vec<(String, usize)>,
}

impl Scan<'_> {
    /// Reads tokens; a path that begins in a `use` list continues `prefix`.
    fn stream(&mut self, stream: TokenStream, prefix: &[String]) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            if let Some(length) = attribute_length(&tokens[at..]) {
                self.attribute(&tokens[at..at + length]);
                at += length;
                continue;
            }
            at += match &tokens[at] {
                TokenTree::Ident(word) if !prefix.is_empty() && word == "as" => 2,
                TokenTree::Ident(_) => self.path(&tokens[at..], prefix),
                TokenTree::Group(group) => {
                    self.covered(&tokens[at]);
                    // A list that continues a path is read where the path is.
                    self.stream(group.stream(), &[]);
                    1
                }
                _ => {
                    self.covered(&tokens[at]);
                    1
                }
            };
        }
    }

    /// Reads the path that starts at the first token; returns how many tokens it took.
    fn path(&mut self, tokens: &[TokenTree], prefix: &[String]) -> usize {
        let mut segments = prefix.to_vec();
        let mut at = 0;
        loop {
            match tokens.get(at) {
                Some(TokenTree::Ident(word)) => segments.push(word.to_string()),
                Some(TokenTree::Punct(star)) if star.as_char() == '*' => segments.push("*".into()),
                Some(TokenTree::Group(list)) if list.delimiter() == Delimiter::Brace => {
                    self.covered(&tokens[at]);
                    self.stream(list.stream(), &segments);
                    return at + 1;
                }
                _ => break,
            }
            self.covered(&tokens[at]);
            at += 1;
            if !is_path_separator(&tokens[at..]) {
                break;
            }
            at += 2;
        }
        let line = tokens[at.saturating_sub(1)].span().start().line;
        self.paths.push(UsedPath { segments, line });
        at
    }

    /// Reads an attribute; a doc comment is one too, and no code.
    fn attribute(&mut self, tokens: &[TokenTree]) {
        let start = tokens[0].span().start();
        let line = self.source[start.line - 1];
        if line.chars().nth(start.column) == Some('/') {
            return;
        }
        let Some(TokenTree::Group(group)) = tokens.last() else {
            return;
        };
        self.covered(&tokens[0]);
        self.covered(&tokens[tokens.len() - 1]);
        let words: Vec<String> = group
            .stream()
            .into_iter()
            .filter_map(|token| match token {
                TokenTree::Ident(word) => Some(vec![word.to_string()]),
                TokenTree::Group(inner) => Some(idents(inner.stream())),
                _ => None,
            })
            .flatten()
            .collect();
        let opened = if words.first().is_some_and(|word| word == "cfg_attr") {
            words.len()
        } else {
            1
        };
        self.attributes.extend(
            words
                .into_iter()
                .take(opened)
                .map(|word| (word, start.line)),
        );
        self.stream(group.stream(), &[]);
    }

    /// Notes the lines of a token as code: of a group only its delimiters.
    fn covered(&mut self, token: &TokenTree) {
        let (first, last) = (token.span().start().line, token.span().end().line);
        match token {
            TokenTree::Group(_) => self.lines.extend([first, last]),
            _ => self.lines.extend(first..=last),
        }
    }
}

/// How many tokens of an attribute (`#[…]`, `#![…]`) stand first, if one does.
fn attribute_length(tokens: &[TokenTree]) -> Option<usize> {
    let is = |token: Option<&TokenTree>, wanted: char| match token {
        Some(TokenTree::Punct(punct)) => punct.as_char() == wanted,
        _ => false,
    };
    if !is(tokens.first(), '#') {
        return None;
    }
    let group = if is(tokens.get(1), '!') { 2 } else { 1 };
    match tokens.get(group) {
        Some(TokenTree::Group(inner)) if inner.delimiter() == Delimiter::Bracket => Some(group + 1),
        _ => None,
    }
}

fn is_path_separator(tokens: &[TokenTree]) -> bool {
    let is_punct = |token: &TokenTree, wanted: char| match token {
        TokenTree::Punct(punct) => punct.as_char() == wanted,
        _ => false,
    };
    match tokens {
        [first, second, TokenTree::Ident(_) | TokenTree::Group(_), ..] => {
            is_punct(first, ':') && is_punct(second, ':')
        }
        [first, second, star, ..] => {
            is_punct(first, ':') && is_punct(second, ':') && is_punct(star, '*')
        }
        _ => false,
    }
}

fn idents(stream: TokenStream) -> Vec<String> {
    let mut found = Vec::new();
    for token in stream {
        match token {
            TokenTree::Ident(word) => found.push(word.to_string()),
            TokenTree::Group(group) => found.extend(idents(group.stream())),
            _ => {}
        }
    }
    found
}

/// Whether a returned type is a `Result`, or a future of one.
fn is_result(returned: TokenStream) -> bool {
    let words = idents_before_arguments(returned.clone());
    if words.first().is_some_and(|word| word == "impl") {
        return idents(returned).iter().any(|word| word == "Result");
    }
    words.last().is_some_and(|word| word == "Result")
}

/// The words of a type up to its first `<`.
fn idents_before_arguments(stream: TokenStream) -> Vec<String> {
    let before = stream
        .into_iter()
        .take_while(|token| !matches!(token, TokenTree::Punct(punct) if punct.as_char() == '<'));
    before
        .filter_map(|token| match token {
            TokenTree::Ident(word) => Some(word.to_string()),
            _ => None,
        })
        .collect()
}

fn is_cfg_test(attr: &syn::Attribute) -> bool {
    attr.path().is_ident("cfg")
        && attr
            .parse_args::<syn::Ident>()
            .is_ok_and(|condition| condition == "test")
}

fn is_hidden(attrs: &[syn::Attribute]) -> bool {
    attrs.iter().any(|attr| {
        attr.path().is_ident("doc")
            && attr
                .parse_args::<syn::Ident>()
                .is_ok_and(|word| word == "hidden")
    })
}

fn docs_of(attrs: &[syn::Attribute]) -> String {
    let mut docs = String::new();
    for attr in attrs {
        let syn::Meta::NameValue(pair) = &attr.meta else {
            continue;
        };
        let syn::Expr::Lit(value) = &pair.value else {
            continue;
        };
        let syn::Lit::Str(text) = &value.lit else {
            continue;
        };
        if pair.path.is_ident("doc") {
            docs.push_str(&text.value());
            docs.push('\n');
        }
    }
    docs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        let file = RustFile::parse("x.rs", text);
        file.paths
            .iter()
            .map(|path| path.segments.join("::"))
            .collect()
    }

    #[test]
    fn nested_use_lists_are_written_out() {
        let found = paths("use std::{sync::{Arc, Mutex as M}, net::*};");
        assert_eq!(
            found,
            ["use", "std::sync::Arc", "std::sync::Mutex", "std::net::*"]
        );
    }

    #[test]
    fn comments_and_strings_hold_no_paths() {
        let found = paths("// std::net\n/* std::net */ const A: &str = \"std::net\";");
        assert!(!found.contains(&"std::net".to_owned()), "{found:?}");
    }

    #[test]
    fn macro_arguments_hold_paths() {
        let found = paths("fn f() { assert!(std::net::x()); }");
        assert!(found.contains(&"std::net::x".to_owned()), "{found:?}");
    }

    #[test]
    fn code_lines_leave_out_comments_blanks_and_test_modules() {
        let text = "//! docs\n\n/// docs\nfn f() {\n    // why\n    g();\n}\n\
                    #[cfg(test)]\nmod tests {\n    fn t() {}\n}\n";
        assert_eq!(RustFile::parse("x.rs", text).code_lines, 3);
    }

    #[test]
    fn a_function_is_read_with_its_docs_and_what_it_returns() {
        let text = "/// Says.\npub async fn f(\n) -> io::Result<()> {\n}\n";
        let file = RustFile::parse("x.rs", text);
        let function = &file.functions[0];
        assert!(function.public && function.asynchronous && function.fallible);
        assert_eq!(
            (function.docs.trim(), function.lines.clone()),
            ("Says.", 2..=4)
        );
    }

    #[test]
    fn a_future_of_a_result_is_fallible_and_an_option_of_one_is_not() {
        let text =
            "fn a() -> impl Future<Output = Result<(), E>> {}\nfn b() -> Option<Result<u8, E>> {}";
        let file = RustFile::parse("x.rs", text);
        let fallible: Vec<bool> = file
            .functions
            .iter()
            .map(|function| function.fallible)
            .collect();
        assert_eq!(fallible, [true, false]);
    }
}
