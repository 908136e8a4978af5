//! The JSON Schema of Kurfiles, for editors and validators, made from the tables that the parser uses.
//!
//! It describes a file before evaluation: where a value of a type may stand, a template or a Python literal that gives
//! one may stand too. What only the parser can know (names, shapes, values of templates) is not in it.

use serde_json::{Map, Value as Json, json};

use super::containers::{CONTAINERS, FIELDS};
use super::sections::evaluation::{EVALUATE, TEST, VALIDATE};
use super::sections::suppliers::SUPPLIERS;
use super::sections::{INCLUDE, SECTIONS, loss, settings, train};
use super::table::{Key, Range, Ty};

/// The schema, draft 2020-12.
#[must_use]
pub fn schema() -> Json {
    let mut properties = Map::new();
    properties.insert("include".to_owned(), described(ty(&INCLUDE), "files whose values are taken over"));
    for (name, alias) in SECTIONS {
        let one = section(name);
        for spelling in [Some(*name), *alias].into_iter().flatten() {
            properties.insert(spelling.to_owned(), one.clone());
        }
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Kurfile",
        "description": "A deep-learning model, its data and its training, as kurc reads it; `model` may stand in another file that includes this one",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "$defs": {
            "template": {
                "description": "a Jinja2 template that gives the value",
                "type": "string",
                "pattern": "\\{\\{|\\{%|\\{#",
            },
            "number_text": {
                "description": "a number as text",
                "type": "string",
                "pattern": "^[-+]?([0-9][0-9_]*(\\.[0-9]*)?|\\.[0-9]+)([eE][-+]?[0-9]+)?\\s*$|^[-+]?0[xXoObB][0-9a-fA-F_]+\\s*$",
            },
            "list_text": { "description": "a list as text", "type": "string", "pattern": "^\\s*[\\[(]|," },
            "mapping_text": { "description": "a mapping as text", "type": "string", "pattern": "^\\s*\\{" },
            "entry": entry(),
            "supplier": supplier(),
        },
    })
}

fn section(name: &str) -> Json {
    let doc = match name {
        "settings" => "values of your own, for use in templates, and a few with a meaning",
        "train" => "data, epochs, weights and optimizer of the training",
        "validate" => "data that shows after each epoch how training goes",
        "test" => "data for `test`",
        "evaluate" => "data for `evaluate`, and where the results go",
        "templates" => "lists of layers under a name, used like a layer type",
        "model" => "the layers, from data to outputs",
        _ => "what training makes small",
    };
    let value = match name {
        "settings" => {
            let mut one = object(settings::KEYS, &[]);
            one["additionalProperties"] = Json::Bool(true);
            or_template(vec![one, nothing()], "mapping_text")
        }
        "train" => data_section(train::KEYS),
        "validate" => data_section(VALIDATE),
        "test" => data_section(TEST),
        "evaluate" => data_section(EVALUATE),
        "templates" => {
            let body = json!({ "anyOf": [
                { "type": "array", "items": { "$ref": "#/$defs/entry" } },
                { "$ref": "#/$defs/entry" },
                nothing(),
            ] });
            json!({ "type": ["object", "null"], "additionalProperties": body })
        }
        "model" => or_template(vec![entries()], "list_text"),
        _ => {
            let one = or_template(vec![object(loss::KEYS, &[])], "mapping_text");
            or_template(vec![json!({ "type": "array", "items": one }), nothing()], "list_text")
        }
    };
    described(value, doc)
}

/// A section with data. A merge key may bring it keys of other sections, which mean nothing there.
fn data_section(keys: &'static [Key]) -> Json {
    or_template(vec![object(keys, super::fields::SECTION_KEYS), nothing()], "mapping_text")
}

fn entries() -> Json {
    json!({ "type": "array", "items": { "$ref": "#/$defs/entry" } })
}

/// A model entry: a word, or a mapping with one container type or template and common fields.
fn entry() -> Json {
    let mut forms = Vec::new();
    let fields = |map: &mut Map<String, Json>| {
        for key in FIELDS {
            map.insert(key.name.to_owned(), property(key));
        }
    };
    for t in CONTAINERS {
        let mut properties = Map::new();
        properties.insert(t.word.to_owned(), described(ty(&t.form), t.doc));
        fields(&mut properties);
        forms.push(json!({
            "type": "object",
            "properties": properties,
            "required": [t.word],
            "additionalProperties": false,
        }));
    }
    let mut properties = Map::new();
    fields(&mut properties);
    let builtin: Vec<&str> = CONTAINERS.iter().map(|t| t.word).collect();
    let common: Vec<&str> = FIELDS.iter().map(|k| k.name).collect();
    forms.push(json!({
        "description": "the use of a template, with its arguments",
        "type": "object",
        "properties": properties,
        "propertyNames": { "not": { "enum": builtin } },
        "additionalProperties": or_template(vec![json!({ "type": ["object", "null"] })], "mapping_text"),
        "not": { "propertyNames": { "enum": common } },
    }));
    let words: Vec<&str> = CONTAINERS.iter().filter(|t| takes_null(&t.form)).map(|t| t.word).collect();
    forms.push(json!({ "description": "a layer without arguments", "enum": words }));
    forms.push(json!({
        "description": "a template without arguments, or a Jinja2 template",
        "type": "string",
        "not": { "enum": builtin },
    }));
    json!({ "anyOf": forms })
}

fn takes_null(ty: &Ty) -> bool {
    match ty {
        Ty::Null | Ty::Any => true,
        Ty::AnyOf(all) => all.iter().any(takes_null),
        _ => false,
    }
}

/// A supplier entry: one supplier, with its parameters by name or by position.
fn supplier() -> Json {
    let mut properties = Map::new();
    for s in SUPPLIERS {
        let by_position = json!({ "type": ["array", "string"] });
        let forms = json!({ "anyOf": [ty(&s.form), by_position] });
        properties.insert(s.word.to_owned(), described(forms, s.doc));
    }
    properties.insert("when".to_owned(), json!({ "description": "leave it out unless this is true" }));
    properties.insert("name".to_owned(), json!({ "description": "a name, without effect" }));
    let one: Vec<Json> = SUPPLIERS.iter().map(|s| json!({ "required": [s.word] })).collect();
    let entry = json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "oneOf": one,
    });
    or_template(vec![entry], "mapping_text")
}

/// The mapping of a table. `foreign` keys are let through.
fn object(keys: &'static [Key], foreign: &[&str]) -> Json {
    let mut properties = Map::new();
    for name in foreign {
        properties.insert((*name).to_owned(), Json::Object(Map::new()));
    }
    // Keys without a description are known for the sake of their error only.
    for key in keys.iter().filter(|k| !k.doc.is_empty()) {
        properties.insert(key.name.to_owned(), property(key));
    }
    let required: Vec<&str> = keys.iter().filter(|k| k.required).map(|k| k.name).collect();
    let mut out = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        out["required"] = json!(required);
    }
    out
}

/// The schema of a key's value; null stands for an absent one.
fn property(key: &'static Key) -> Json {
    let value = ty(&key.ty);
    let value = if key.required || takes_null(&key.ty) { value } else { json!({ "anyOf": [value, nothing()] }) };
    described(value, key.doc)
}

fn described(mut value: Json, doc: &str) -> Json {
    if let Json::Object(map) = &mut value {
        map.insert("description".to_owned(), Json::from(doc));
    }
    value
}

fn nothing() -> Json {
    json!({ "enum": [null, "None"] })
}

/// One of these, or text that gives one.
fn or_template(mut forms: Vec<Json>, text: &str) -> Json {
    forms.push(json!({ "$ref": "#/$defs/template" }));
    if !text.is_empty() {
        forms.push(json!({ "$ref": format!("#/$defs/{text}") }));
    }
    json!({ "anyOf": forms })
}

fn ty(t: &'static Ty) -> Json {
    match t {
        Ty::Any => Json::Object(Map::new()),
        Ty::Null => nothing(),
        // Editors read YAML 1.2, in which `yes` is text.
        Ty::Bool => or_template(
            vec![
                json!({ "type": "boolean" }),
                json!({ "type": "string", "pattern": "^([Tt]rue|TRUE|[Ff]alse|FALSE|[Yy]es|YES|[Nn]o|NO|[Oo]n|ON|[Oo]ff|OFF)\\s*$" }),
            ],
            "",
        ),
        Ty::Whole(min) => or_template(vec![json!({ "type": "integer", "minimum": min })], "number_text"),
        Ty::Integer => or_template(vec![json!({ "type": "integer" })], "number_text"),
        Ty::Number(range) => or_template(vec![number(*range)], "number_text"),
        Ty::Text => json!({ "anyOf": [
            { "type": "string", "minLength": 1 },
            { "type": ["number", "boolean"] },
        ] }),
        Ty::Path => json!({ "anyOf": [
            { "type": "string", "minLength": 1 },
            { "type": ["number", "boolean"] },
        ] }),
        Ty::Word(words) => {
            or_template(vec![json!({ "enum": words }), json!({ "type": "string", "pattern": any_case(words) })], "")
        }
        Ty::Sizes(max) => or_template(
            vec![
                json!({ "type": "integer", "minimum": 1 }),
                json!({ "type": "array", "items": ty(&Ty::Whole(1)), "minItems": 1, "maxItems": max }),
                json!({ "$ref": "#/$defs/number_text" }),
            ],
            "list_text",
        ),
        Ty::List(item) => or_template(vec![json!({ "type": "array", "items": ty(item) })], "list_text"),
        Ty::Map(keys) => or_template(vec![object(keys, &[])], "mapping_text"),
        Ty::Dict(item) => {
            or_template(vec![json!({ "type": "object", "additionalProperties": ty(item) })], "mapping_text")
        }
        Ty::Layers => or_template(vec![entries()], "list_text"),
        Ty::Suppliers => {
            or_template(vec![json!({ "type": "array", "items": { "$ref": "#/$defs/supplier" } })], "list_text")
        }
        Ty::AnyOf(all) => json!({ "anyOf": all.iter().map(ty).collect::<Vec<_>>() }),
    }
}

fn number(range: Range) -> Json {
    let mut out = json!({ "type": "number" });
    if let Some((bound, own)) = range.min {
        out[if own { "minimum" } else { "exclusiveMinimum" }] = json!(bound);
    }
    if let Some((bound, own)) = range.max {
        out[if own { "maximum" } else { "exclusiveMaximum" }] = json!(bound);
    }
    out
}

/// A pattern for words without regard to case. The patterns of JSON Schema have no flag for that.
fn any_case(words: &[&str]) -> String {
    let letter = |c: char| {
        if c.is_ascii_lowercase() { format!("[{c}{}]", c.to_ascii_uppercase()) } else { c.to_string() }
    };
    let words: Vec<String> = words.iter().map(|w| w.chars().map(letter).collect()).collect();
    format!("^({})$", words.join("|"))
}
