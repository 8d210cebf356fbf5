//! **Pure**: changes of kubeconfigs as values, so that what this command does not know stays.

use serde_json::{Map, Value, json};

use super::{Entry, Error, MARK, Merge, Origin};

/// A file that kubectl reads, as a value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Loaded {
    /// The content.
    pub value: Value,
    /// Whether new entries go into this file.
    pub default: bool,
}

/// The kinds of entries, as list and key.
const CONTEXT: (&str, &str) = ("contexts", "context");
const CLUSTER: (&str, &str) = ("clusters", "cluster");
const USER: (&str, &str) = ("users", "user");

/// Names of contexts in the mark of a context: the current one before it, and that of its management cluster.
const PREVIOUS: &str = "previousContext";
const VIA: &str = "managementContext";

/// Parses a kubeconfig, of which nothing is in the error. An empty file is one without entries.
pub(super) fn parse(yaml: &str) -> Result<Value, String> {
    let first_line = |e: serde_saphyr::Error| e.to_string().lines().next().unwrap_or_default().to_owned();
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).map_err(first_line)?;
    match <[Value; 1]>::try_from(documents) {
        Ok([value @ Value::Object(_)]) => {
            lists(&value)?;
            Ok(value)
        }
        Ok([Value::Null]) => Ok(json!({})),
        Err(none) if none.is_empty() => Ok(json!({})),
        Ok(_) => Err("it is not a mapping".into()),
        Err(_) => Err("it has several documents".into()),
    }
}

/// Refuses a file whose lists are no lists.
fn lists(file: &Value) -> Result<(), String> {
    for (list, _) in [CONTEXT, CLUSTER, USER] {
        if !matches!(file.get(list), None | Some(Value::Null | Value::Array(_))) {
            return Err(format!("{list} is not a list"));
        }
    }
    Ok(())
}

/// Renders a kubeconfig with each value on the line of its key, as kubectl does.
pub(super) fn render(file: &Value) -> Result<String, String> {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false, compact_list_indent: true };
    serde_saphyr::to_string_with_options(file, options).map_err(|e| e.to_string())
}

/// Returns the current context of a file, which must be self-contained.
pub(super) fn current(file: &Value, origin: Origin) -> Result<Entry, String> {
    let missing = |what: &str| format!("it has no {what}");
    let name = text(file, "current-context").ok_or_else(|| missing("current context"))?;
    let context = get(file, CONTEXT, name).ok_or_else(|| missing("current context"))?;
    let part = |kind: (&str, &str)| {
        let name = text(context, kind.1).ok_or_else(|| missing(kind.1))?;
        let value = get(file, kind, name).ok_or_else(|| missing(kind.1))?;
        Ok::<_, String>((name.to_owned(), value.clone()))
    };
    let ((_, cluster), (user_name, user)) = (part(CLUSTER)?, part(USER)?);
    if text(&cluster, "server").is_none() {
        return Err(missing("server"));
    }
    Ok(Entry { name: name.to_owned(), cluster, user_name, user, origin, via: None })
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str().filter(|text| !text.is_empty())
}

fn entries<'a>(file: &'a Value, kind: (&str, &str)) -> impl Iterator<Item = &'a Value> {
    file.get(kind.0).and_then(Value::as_array).into_iter().flatten()
}

/// Returns an entry of a file by its name.
fn get<'a>(file: &'a Value, kind: (&str, &str), name: &str) -> Option<&'a Value> {
    entries(file, kind).find(|entry| text(entry, "name") == Some(name))?.get(kind.1)
}

/// Returns an entry by its name as kubectl sees it: that of the first file that has one.
fn find<'a>(files: &'a [Loaded], kind: (&str, &str), name: &str) -> Option<&'a Value> {
    files.iter().find_map(|file| get(&file.value, kind, name))
}

/// Reports whether the file has this context.
pub(super) fn has_context(file: &Value, name: &str) -> bool {
    get(file, CONTEXT, name).is_some()
}

/// Returns the mark of an entry.
fn mark(entry: &Value) -> Option<&Value> {
    let extensions = entry.get("extensions")?.as_array()?;
    extensions.iter().find(|extension| text(extension, "name") == Some(MARK))?.get("extension")
}

/// Returns whose an entry is.
fn origin(entry: &Value) -> Option<Origin> {
    let mark = mark(entry)?;
    Some(Origin { owner: text(mark, "owner")?.to_owned(), management: text(mark, "management")?.to_owned() })
}

/// Returns the contexts of a file that are marked.
pub(super) fn merged(file: &Value) -> Vec<(String, Origin)> {
    let marked = |entry| Some((text(entry, "name")?.to_owned(), origin(entry.get(CONTEXT.1)?)?));
    entries(file, CONTEXT).filter_map(marked).collect()
}

/// Returns those of the contexts that were merged by way of a context of a management cluster.
pub(super) fn merged_via(file: &Value, via: &str) -> Vec<(String, Origin)> {
    let all = merged(file).into_iter();
    all.filter(|(name, _)| {
        get(file, CONTEXT, name).and_then(mark).and_then(|mark| text(mark, VIA)) == Some(via)
    })
    .collect()
}

/// Returns the entry with the mark, which replaces an earlier one; other extensions stay.
fn marked(mut entry: Value, origin: &Origin, names: &[(&str, Option<&str>)]) -> Value {
    let mut mark = json!({"owner": origin.owner, "management": origin.management});
    for (key, name) in names {
        if let Some(name) = name {
            mark[*key] = (*name).into();
        }
    }
    let mut extensions = entry.get("extensions").and_then(Value::as_array).cloned().unwrap_or_default();
    extensions.retain(|extension| text(extension, "name") != Some(MARK));
    extensions.push(json!({"name": MARK, "extension": mark}));
    entry["extensions"] = extensions.into();
    entry
}

/// Sets an entry in the file that has one of this name, or else in the default file.
fn put(files: &mut [Loaded], kind: (&str, &str), name: &str, value: Value) {
    let of = files.iter().position(|file| get(&file.value, kind, name).is_some());
    let Some(file) = of.or_else(|| files.iter().position(|file| file.default)) else { return };
    let Some(file) = files[file].value.as_object_mut() else { return };
    file.entry("apiVersion").or_insert_with(|| "v1".into());
    file.entry("kind").or_insert_with(|| "Config".into());
    let list = file.entry(kind.0).or_insert(Value::Null);
    if list.is_null() {
        *list = Value::Array(Vec::new());
    }
    let Some(list) = list.as_array_mut() else { return };
    match list.iter_mut().find(|entry| text(entry, "name") == Some(name)) {
        Some(entry) => entry[kind.1] = value,
        None => list.push(json!({"name": name, kind.1: value})),
    }
}

/// Removes the entry of this name that kubectl sees.
fn take(files: &mut [Loaded], kind: (&str, &str), name: &str) {
    let Some(file) = files.iter_mut().find(|file| get(&file.value, kind, name).is_some()) else { return };
    let list = file.value.get_mut(kind.0).and_then(Value::as_array_mut);
    if let Some(list) = list
        && let Some(at) = list.iter().position(|entry| text(entry, "name") == Some(name))
    {
        list.remove(at);
    }
}

/// Returns the current context as kubectl sees it.
pub(super) fn current_name(files: &[Loaded]) -> Option<&str> {
    files.iter().find_map(|file| text(&file.value, "current-context"))
}

/// Returns the current context, or that of its management cluster if it was merged through one that still exists.
pub(super) fn management<'a>(files: impl Iterator<Item = &'a Value> + Clone) -> Option<String> {
    let context = |name: &str| files.clone().find_map(|file| get(file, CONTEXT, name));
    let current = files.clone().find_map(|file| text(file, "current-context"))?;
    let via = context(current).and_then(mark).and_then(|mark| text(mark, VIA));
    Some(via.filter(|via| context(via).is_some()).unwrap_or(current).to_owned())
}

/// Reports whether a context with another name refers to an entry.
fn shared(files: &[Loaded], kind: (&str, &str), name: &str, context: &str) -> bool {
    let refers = |entry: &Value| {
        text(entry, "name") != Some(context)
            && entry.get(CONTEXT.1).and_then(|c| text(c, kind.1)) == Some(name)
    };
    files.iter().any(|file| entries(&file.value, CONTEXT).any(refers))
}

/// Merges an entry.
pub(super) fn merge(files: &mut [Loaded], entry: &Entry, how: Merge) -> Result<(), Error> {
    if !how.force {
        may_replace(files, entry)?;
    }
    let Entry { name, cluster, user_name, user, origin: of, via } = entry;
    let old = find(files, CONTEXT, name).cloned();
    let before = old.as_ref().and_then(mark).and_then(|mark| text(mark, PREVIOUS));
    let now = current_name(files).filter(|now| now != name && how.switch);
    let previous = now.or(before).map(str::to_owned);
    // The namespace and the extensions that someone set in the context stay.
    let mut context = old.clone().filter(Value::is_object).unwrap_or_else(|| Value::Object(Map::new()));
    context[CLUSTER.1] = name.as_str().into();
    context[USER.1] = user_name.as_str().into();
    let names = [(PREVIOUS, previous.as_deref()), (VIA, via.as_deref())];
    put(files, CONTEXT, name, marked(context, of, &names));
    put(files, CLUSTER, name, marked(cluster.clone(), of, &[]));
    put(files, USER, user_name, marked(user.clone(), of, &[]));
    // With another access the user has another name.
    let old_user = old.as_ref().and_then(|old| text(old, USER.1)).filter(|old| old != user_name);
    if let Some(old_user) = old_user
        && find(files, USER, old_user).is_some_and(|user| origin(user).as_ref() == Some(of))
        && !shared(files, USER, old_user, name)
    {
        take(files, USER, old_user);
    }
    if how.switch {
        switch(files, name);
    }
    Ok(())
}

/// Refuses to replace what someone else made.
fn may_replace(files: &[Loaded], new: &Entry) -> Result<(), Error> {
    let taken = |kind, name: &str, whose| Err(Error::Taken { kind, name: name.to_owned(), whose });
    if let Some(context) = find(files, CONTEXT, &new.name) {
        let cluster = text(context, CLUSTER.1);
        let server = cluster.and_then(|name| text(find(files, CLUSTER, name)?, "server"));
        if let Some(whose) = stranger(context, server, new) {
            return taken("context", &new.name, whose);
        }
    }
    if let Some(cluster) = find(files, CLUSTER, &new.name)
        && let Some(whose) = stranger(cluster, text(cluster, "server"), new)
    {
        return taken("cluster", &new.name, whose);
    }
    if let Some(user) = find(files, USER, &new.user_name)
        && origin(user).is_none_or(|origin| origin != new.origin)
        && shared(files, USER, &new.user_name, &new.name)
    {
        return taken("user", &new.user_name, "a context of another name refers to it".into());
    }
    Ok(())
}

/// Returns whose an entry is, if it is not the new one's.
fn stranger(entry: &Value, server: Option<&str>, new: &Entry) -> Option<String> {
    match origin(entry) {
        Some(origin) if origin == new.origin => None,
        _ if server == Some(new.server()) => None,
        Some(Origin { owner, management }) => Some(format!("it is that of {owner} of {management}")),
        None => Some(format!("it leads to {}", server.unwrap_or("no server"))),
    }
}

/// Removes a context, its cluster and its user as far as they have this origin and no other context refers to them.
pub(super) fn remove(files: &mut [Loaded], name: &str, of: &Origin) {
    let ours = |entry: &Value| origin(entry).as_ref() == Some(of);
    let Some(context) = find(files, CONTEXT, name).filter(|context| ours(context)).cloned() else { return };
    let previous = mark(&context).and_then(|mark| text(mark, PREVIOUS));
    let previous = previous.filter(|previous| find(files, CONTEXT, previous).is_some());
    take(files, CONTEXT, name);
    for file in files.iter_mut() {
        relink(&mut file.value, name, previous);
    }
    for kind in [CLUSTER, USER] {
        if let Some(part) = text(&context, kind.1)
            && find(files, kind, part).is_some_and(ours)
            && !shared(files, kind, part, name)
        {
            take(files, kind, part);
        }
    }
    for file in files.iter_mut().filter(|file| text(&file.value, "current-context") == Some(name)) {
        file.value["current-context"] = previous.unwrap_or_default().into();
    }
}

/// Replaces a context that is removed as the one before others.
fn relink(file: &mut Value, name: &str, previous: Option<&str>) {
    for entry in file.get_mut(CONTEXT.0).and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(extensions) = entry[CONTEXT.1].get_mut("extensions").and_then(Value::as_array_mut) else {
            continue;
        };
        for extension in extensions.iter_mut().filter(|extension| text(extension, "name") == Some(MARK)) {
            let Some(mark) = extension.get_mut("extension").and_then(Value::as_object_mut) else { continue };
            if mark.get(PREVIOUS).and_then(Value::as_str) == Some(name) {
                mark.remove(PREVIOUS);
                mark.extend(previous.map(|previous| (PREVIOUS.to_owned(), previous.into())));
            }
        }
    }
}

/// Makes a context the current one: in the default file, as kubectl does, unless an earlier file sets another one.
pub(super) fn switch(files: &mut [Loaded], name: &str) {
    if current_name(files) == Some(name) {
        return;
    }
    let set = files.iter().position(|file| text(&file.value, "current-context").is_some());
    let default = files.iter().position(|file| file.default);
    let Some(file) = set.into_iter().chain(default).min() else { return };
    if let Some(file) = files[file].value.as_object_mut() {
        file.insert("current-context".into(), name.into());
    }
}

#[cfg(test)]
mod tests;
