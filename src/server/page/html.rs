//! The page as text. Pure: what is to be shown comes in, HTML goes out, and each value is escaped for where it stands.

use crate::server::accept::Language;
use crate::server::entity::{class_name, rfc3339};
use crate::server::grant::Grant;
use crate::server::listing::{Key, Order, Sort};
use crate::server::target;
use crate::storage::{Class, Entry, Folder, Meta, Name, Scope};
use crate::users::Verb;

use super::assets;
use super::words::{self, Word, fill};

/// HTML that is being written. What is given to [`raw`](Self::raw) stands in the program; all else is escaped.
pub(crate) struct Html {
    out: String,
    language: Language,
}

impl Html {
    pub(crate) fn new(language: Language) -> Html {
        Html { out: String::with_capacity(4096), language }
    }

    pub(crate) fn raw(&mut self, markup: &'static str) -> &mut Html {
        self.out.push_str(markup);
        self
    }

    /// Text of an element, or the value of an attribute in double quotes.
    pub(crate) fn text(&mut self, text: &str) -> &mut Html {
        escape(text, &mut self.out);
        self
    }

    pub(crate) fn word(&mut self, word: Word) -> &mut Html {
        self.text(word.in_(self.language))
    }

    fn filled(&mut self, word: Word, values: &[(&str, &str)]) -> &mut Html {
        let text = fill(word.in_(self.language), values);
        self.text(&text)
    }

    pub(crate) fn end(self) -> Vec<u8> {
        self.out.into_bytes()
    }
}

/// Escapes for text between tags, and for attributes in quotes.
fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Between tags a control character would be an error, and names have none.
            character if character.is_control() && character != '\n' => out.push('\u{fffd}'),
            character => out.push(character),
        }
    }
}

/// What every page has around what it is about.
pub(crate) struct Frame<'a> {
    pub(crate) language: Language,
    pub(crate) title: &'a str,
    /// This page in the other language, if it can be asked for again.
    pub(crate) other: Option<&'a str>,
    pub(crate) user: Option<&'a str>,
}

const SPRITE: &str = r#"<svg class="sprite" aria-hidden="true" focusable="false" width="0" height="0">
<symbol id="i-cloud" viewBox="0 0 24 24"><path d="M7 18.5h10a4 4 0 0 0 .6-7.95A6 6 0 0 0 6.1 9.6 4.5 4.5 0 0 0 7 18.5z"/></symbol>
<symbol id="i-folder" viewBox="0 0 24 24"><path d="M3 6.5A1.5 1.5 0 0 1 4.5 5h4l2 2.5h9A1.5 1.5 0 0 1 21 9v8.5a1.5 1.5 0 0 1-1.5 1.5h-15A1.5 1.5 0 0 1 3 17.5z"/></symbol>
<symbol id="i-file" viewBox="0 0 24 24"><path d="M6 3.5h8L18.5 8v12.5H6z"/><path d="M14 3.5V8h4.5"/></symbol>
<symbol id="i-download" viewBox="0 0 24 24"><path d="M12 4v11m-4.5-4.5L12 15l4.5-4.5M5 20h14"/></symbol>
<symbol id="i-delete" viewBox="0 0 24 24"><path d="M4.5 7h15M9.5 7V4.5h5V7M18 7l-1 13H7L6 7m4 3.5v6m4-6v6"/></symbol>
<symbol id="i-upload" viewBox="0 0 24 24"><path d="M12 16V5M7.5 9.5 12 5l4.5 4.5M5 20h14"/></symbol>
<symbol id="i-search" viewBox="0 0 24 24"><circle cx="11" cy="11" r="6.5"/><path d="m20 20-4.2-4.2"/></symbol>
</svg>
"#;

macro_rules! icon {
    ($name:literal) => {
        concat!(
            r##"<svg class="icon" aria-hidden="true" focusable="false"><use href="#i-"##,
            $name,
            r##""></use></svg>"##
        )
    };
}

fn code(language: Language) -> &'static str {
    match language {
        Language::En => "en",
        Language::Zh => "zh",
    }
}

fn open(html: &mut Html, frame: &Frame<'_>) {
    html.raw("<!doctype html>\n<html lang=\"").text(code(frame.language));
    html.raw(
        "\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>",
    );
    html.text(frame.title).raw(" \u{b7} cloudstore</title>\n<link rel=\"stylesheet\" href=\"");
    html.text(assets::style().path()).raw("\">\n<link rel=\"icon\" type=\"image/svg+xml\" href=\"");
    html.text(assets::icon().path()).raw("\">\n<script src=\"").text(assets::script().path());
    html.raw("\"></script>\n</head>\n");
}

fn header(html: &mut Html, frame: &Frame<'_>) {
    html.raw(SPRITE).raw("<header class=\"top\">\n<a class=\"brand\" href=\"/\">");
    html.raw(icon!("cloud")).raw("<span>cloudstore</span></a>\n<div class=\"who\">");
    if let Some(user) = frame.user {
        html.raw("<span>").filled(Word::SignedIn, &[("name", user)]).raw("</span>");
    }
    if let Some(other) = frame.other {
        let (lang, name) = match frame.language {
            Language::En => ("zh", "\u{4e2d}\u{6587}"),
            Language::Zh => ("en", "English"),
        };
        html.raw("<nav class=\"languages\" aria-label=\"").word(Word::LanguageLabel).raw("\"><a href=\"");
        html.text(other).raw("\" lang=\"").text(lang).raw("\" hreflang=\"").text(lang).raw("\">");
        html.text(name).raw("</a></nav>\n");
    }
    html.raw("</div></header>\n");
}

fn close(html: &mut Html) {
    html.raw("</body>\n</html>\n");
}

/// The last part of a folder's path; what the top folder is called for that one.
fn leaf(folder: &Folder, language: Language) -> &str {
    let bare = folder.prefix().trim_end_matches('/');
    match bare.rsplit('/').next() {
        Some("") | None => Word::Files.in_(language),
        Some(leaf) => leaf,
    }
}

/// Where a folder is.
pub(crate) fn folder_path(folder: &Folder) -> String {
    if folder.prefix().is_empty() { "/".to_owned() } else { target::path("/files/", folder.prefix()) }
}

/// What was done by the request that led here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flash {
    Stored(u64),
    Removed,
    RemovedFolder(u64),
    Nothing,
}

impl Flash {
    /// What a query says, if it is one of the things that can have been done.
    pub(crate) fn of(word: &str, n: &str) -> Option<Flash> {
        let n = n.parse().ok();
        match word {
            "stored" => n.map(Flash::Stored),
            "removed" => Some(Flash::Removed),
            "folder" => n.map(Flash::RemovedFolder),
            "nothing" => Some(Flash::Nothing),
            _ => None,
        }
    }

    /// As a query.
    pub(crate) fn query(self) -> String {
        match self {
            Flash::Stored(n) => format!("?done=stored&n={n}"),
            Flash::Removed => "?done=removed".to_owned(),
            Flash::RemovedFolder(n) => format!("?done=folder&n={n}"),
            Flash::Nothing => "?done=nothing".to_owned(),
        }
    }

    fn text(self, language: Language) -> String {
        let count = |n: u64, one: Word, many: Word| counted(language, n, one, many);
        match self {
            Flash::Stored(n) => count(n, Word::DoneStoredOne, Word::DoneStoredMany),
            Flash::Removed => Word::DoneRemoved.in_(language).to_owned(),
            Flash::RemovedFolder(n) => count(n, Word::DoneFolderOne, Word::DoneFolderMany),
            Flash::Nothing => Word::DoneNothing.in_(language).to_owned(),
        }
    }
}

fn counted(language: Language, n: u64, one: Word, many: Word) -> String {
    let word = if n == 1 { one } else { many };
    fill(word.in_(language), &[("n", &n.to_string())])
}

/// A folder to be shown.
pub(crate) struct View {
    pub(crate) language: Language,
    pub(crate) folder: Folder,
    pub(crate) entries: Vec<Entry>,
    /// Where the next page begins.
    pub(crate) next: Option<String>,
    /// It does not begin where the folder does.
    pub(crate) is_continued: bool,
    pub(crate) sort: Sort,
    /// The order that was asked for is not possible for so many.
    pub(crate) is_too_long_to_sort: bool,
    /// What was searched for.
    pub(crate) find: Option<String>,
    /// There may be more to be found.
    pub(crate) is_cut: bool,
    pub(crate) flash: Option<Flash>,
    /// Bytes that can still be stored, if that is known.
    pub(crate) free: Option<u64>,
    /// This page in the other language.
    pub(crate) other: String,
    /// Who looks at it, if that is known.
    pub(crate) user: Option<String>,
    /// What may be seen.
    pub(crate) scope: Scope,
    /// What is offered.
    pub(crate) offer: Grant,
}

/// More are not sorted by anything but their name.
pub(crate) const MOST_SORTED: usize = 5000;

impl View {
    /// All before the rows.
    pub(crate) fn head(&self) -> Vec<u8> {
        let mut html = Html::new(self.language);
        let title = leaf(&self.folder, self.language);
        let frame =
            Frame { language: self.language, title, other: Some(&self.other), user: self.user.as_deref() };
        open(&mut html, &frame);
        let (script, problems) = words::for_script(self.language);
        html.raw("<body data-folder=\"").text(self.folder.prefix());
        html.raw("\" data-complete=\"").text(if self.is_complete() { "yes" } else { "no" });
        html.raw("\" data-replaces=\"").text(if self.offers(Verb::Replace) { "yes" } else { "no" });
        html.raw("\" data-words=\"").text(&script).raw("\" data-problems=\"").text(&problems).raw("\">\n");
        html.raw("<a class=\"skip\" href=\"#list\">").word(Word::SkipToList).raw("</a>\n");
        header(&mut html, &frame);
        html.raw("<main>\n");
        self.crumbs(&mut html);
        html.raw("<div id=\"told\" class=\"told\" role=\"status\" aria-live=\"polite\">");
        if let Some(flash) = self.flash {
            html.raw("<p>").text(&flash.text(self.language)).raw("</p>");
        }
        html.raw("</div>\n");
        if self.offers(Verb::Create) || self.offers(Verb::Replace) {
            self.upload(&mut html);
        } else {
            html.raw("<p class=\"note\">").word(Word::NoUpload).raw("</p>\n");
        }
        html.raw("<section id=\"list\" class=\"list\" tabindex=\"-1\" aria-label=\"");
        html.filled(Word::Caption, &[("folder", title)]).raw("\">\n");
        self.search(&mut html);
        if self.entries.is_empty() {
            let empty = if self.find.is_some() { Word::NoneFound } else { Word::Empty };
            html.raw("<p class=\"empty\">")
                .raw(icon!("folder"))
                .raw("<span>")
                .word(empty)
                .raw("</span></p>\n");
        } else {
            self.columns(&mut html);
        }
        html.end()
    }

    /// Whether the list is the whole folder.
    fn is_complete(&self) -> bool {
        self.next.is_none() && !self.is_continued && !self.is_cut
    }

    fn crumbs(&self, html: &mut Html) {
        html.raw("<nav class=\"crumbs\" aria-label=\"").word(Word::Path).raw("\"><ol>");
        let prefix = self.folder.prefix();
        if prefix.is_empty() {
            html.raw("<li><h1 aria-current=\"page\">").word(Word::Files).raw("</h1></li>");
        } else {
            html.raw("<li><a href=\"/\">").word(Word::Files).raw("</a></li>");
        }
        for (at, _) in prefix.match_indices('/') {
            let (path, is_last) = (&prefix[..=at], at + 1 == prefix.len());
            let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            if is_last {
                html.raw("<li><h1 aria-current=\"page\"><bdi>").text(name).raw("</bdi></h1></li>");
            } else {
                html.raw("<li><a href=\"").text(&target::path("/files/", path)).raw("\"><bdi>");
                html.text(name).raw("</bdi></a></li>");
            }
        }
        html.raw("</ol></nav>\n");
    }

    /// Whether it is offered to do this to something here or below.
    fn offers(&self, verb: Verb) -> bool {
        self.offer.may_somewhere(verb, &self.folder)
    }

    fn upload(&self, html: &mut Html) {
        html.raw(
            "<form id=\"upload\" class=\"upload\" method=\"post\" enctype=\"multipart/form-data\" action=\"",
        );
        html.text(&folder_path(&self.folder))
            .raw("\" aria-labelledby=\"upload-title\">\n<h2 id=\"upload-title\">");
        html.word(Word::Upload).raw("</h2>\n<fieldset class=\"class\"><legend>").word(Word::ClassLabel);
        html.raw("</legend>");
        // What is said of files stands in front of them: they are stored as they come.
        for (value, is_first, name, hint) in
            [("low", true, Word::Low, Word::LowHint), ("deep", false, Word::Deep, Word::DeepHint)]
        {
            html.raw("<label><input type=\"radio\" name=\"class\" value=\"").text(value).raw("\"");
            html.raw(if is_first { " checked> " } else { "> " }).raw("<span><b>").word(name);
            html.raw("</b> <small>").word(hint).raw("</small></span></label>");
        }
        html.raw("</fieldset>\n<p class=\"into\"><label for=\"into\">").word(Word::Subfolder);
        html.raw("</label> <input id=\"into\" name=\"folder\" autocomplete=\"off\" spellcheck=\"false\" aria-describedby=\"into-hint\"> ");
        html.raw("<small id=\"into-hint\">").word(Word::SubfolderHint).raw("</small></p>\n");
        if self.offers(Verb::Replace) {
            html.raw("<p class=\"replace without-script\"><label><input type=\"checkbox\" name=\"replace\" value=\"yes\"> ");
            html.word(Word::Replace).raw("</label></p>\n");
        }
        html.raw("<div class=\"drop\">\n<p class=\"choose\">");
        html.raw("<input id=\"files\" type=\"file\" name=\"file\" multiple aria-label=\"")
            .word(Word::FilesLabel);
        html.raw("\"><label class=\"button primary with-script\" for=\"files\">").raw(icon!("upload"));
        html.word(Word::ChooseFiles).raw("</label> ");
        html.raw("<button type=\"button\" id=\"choose-folder\" class=\"with-script\">").raw(icon!("folder"));
        html.word(Word::ChooseFolder).raw("</button>");
        html.raw("<button class=\"primary without-script\">").raw(icon!("upload")).word(Word::Upload);
        html.raw("</button></p>\n<p class=\"hint with-script\">").word(Word::DropHint).raw("</p>\n");
        html.raw("<p class=\"here\" aria-hidden=\"true\">")
            .word(Word::DropHere)
            .raw("</p>\n</div>\n</form>\n");
        html.raw("<section id=\"uploads\" class=\"uploads\" aria-labelledby=\"uploads-title\" hidden>\n");
        html.raw("<div class=\"all\"><h2 id=\"uploads-title\">").word(Word::Uploads).raw("</h2>");
        html.raw("<progress id=\"all\" max=\"1\" value=\"0\" aria-label=\"").word(Word::AllProgress);
        html.raw("\"></progress><p id=\"all-text\"></p><p class=\"acts\"><button type=\"button\" id=\"cancel-all\">");
        html.word(Word::CancelAll)
            .raw("</button> <button type=\"button\" id=\"clear\" hidden>")
            .word(Word::Clear);
        html.raw("</button></p></div>\n<ul id=\"items\"></ul>\n</section>\n");
    }

    fn search(&self, html: &mut Html) {
        html.raw("<form class=\"find\" role=\"search\" method=\"get\" action=\"")
            .text(&folder_path(&self.folder));
        html.raw("\">");
        html.raw("<label for=\"find\" class=\"quiet\">").word(Word::FindLabel);
        html.raw("</label><span class=\"field\">").raw(icon!("search"));
        html.raw("<input id=\"find\" type=\"search\" name=\"find\" autocomplete=\"off\" spellcheck=\"false\" aria-describedby=\"find-hint\" placeholder=\"");
        html.word(Word::FindLabel).raw("\" value=\"").text(self.find.as_deref().unwrap_or_default());
        html.raw("\"></span> <button>").word(Word::Find).raw("</button>");
        html.raw("<small id=\"find-hint\" class=\"with-script\">")
            .word(Word::FindHint)
            .raw("</small></form>\n");
        if let Some(find) = &self.find {
            let (n, folder) = (self.entries.len(), leaf(&self.folder, self.language));
            html.raw("<div class=\"found\"><h2>").filled(Word::FoundTitle, &[("text", find)]).raw("</h2><p>");
            let word = if n == 1 { Word::OneFound } else { Word::ManyFound };
            html.filled(word, &[("n", &n.to_string()), ("folder", folder)]).raw(" ");
            if self.is_cut {
                html.word(Word::FindCut).raw(" ");
            }
            html.raw("<a href=\"").text(&folder_path(&self.folder)).raw("\">").word(Word::EndSearch);
            html.raw("</a></p></div>\n");
        }
        if self.is_too_long_to_sort {
            let most = MOST_SORTED.to_string();
            html.raw("<p class=\"note\">").filled(Word::TooManyToSort, &[("n", &most)]).raw("</p>\n");
        }
    }

    fn columns(&self, html: &mut Html) {
        html.raw("<table role=\"table\" id=\"table\">\n<caption class=\"quiet\">");
        html.filled(Word::Caption, &[("folder", leaf(&self.folder, self.language))]);
        html.raw("</caption>\n<thead role=\"rowgroup\"><tr role=\"row\">");
        for (key, word, up, down) in [
            (Key::Name, Word::Name, "name", "-name"),
            (Key::Class, Word::ClassLabel, "class", "-class"),
            (Key::Size, Word::Size, "size", "-size"),
            (Key::Modified, Word::Changed, "modified", "-modified"),
        ] {
            let order = match self.sort {
                Sort::Name if key == Key::Name => Some(Order::Up),
                Sort::By(by, order) if by == key => Some(order),
                _ => None,
            };
            html.raw("<th role=\"columnheader\" scope=\"col\" class=\"").text(up).raw("\"");
            match order {
                Some(Order::Up) => html.raw(" aria-sort=\"ascending\""),
                Some(Order::Down) => html.raw(" aria-sort=\"descending\""),
                None => html,
            };
            html.raw(">");
            if self.find.is_some() {
                html.word(word);
            } else {
                let sort = if order == Some(Order::Up) { down } else { up };
                html.raw("<a href=\"?sort=").text(sort).raw("\" data-sort=\"").text(up).raw("\" title=\"");
                html.filled(Word::SortBy, &[("column", word.in_(self.language))]).raw("\">").word(word);
                html.raw("</a>");
            }
            html.raw("</th>");
        }
        html.raw("<th role=\"columnheader\" scope=\"col\" class=\"acts\"><span class=\"quiet\">");
        html.word(Word::Actions).raw("</span></th></tr></thead>\n<tbody role=\"rowgroup\">\n");
    }

    /// Some of the rows.
    pub(crate) fn rows(&self, from: usize, most: usize) -> Vec<u8> {
        let mut html = Html::new(self.language);
        for entry in self.entries.iter().skip(from).take(most) {
            match entry {
                Entry::Folder(folder) => self.folder_row(&mut html, folder),
                Entry::Object { name, meta, .. } => self.object_row(&mut html, name, meta),
            }
        }
        html.end()
    }

    /// What stands behind this folder in a name.
    fn relative<'a>(&self, name: &'a str) -> &'a str {
        name.strip_prefix(self.folder.prefix()).unwrap_or(name)
    }

    fn row(&self, html: &mut Html, kind: &'static str, name: &str) {
        html.raw("<tr role=\"row\" data-kind=\"").raw(kind).raw("\" data-name=\"").text(name).raw("\"");
    }

    fn folder_row(&self, html: &mut Html, folder: &Folder) {
        let shown = self.relative(folder.prefix()).trim_end_matches('/');
        let path = folder_path(folder);
        self.row(html, "folder", folder.prefix());
        html.raw("><th role=\"rowheader\" scope=\"row\" class=\"name folder\">").raw(icon!("folder"));
        html.raw("<span class=\"quiet\">").word(Word::FolderKind).raw(" </span><a href=\"").text(&path);
        html.raw("\"><bdi>").text(shown).raw("</bdi></a></th>");
        html.raw("<td role=\"cell\" class=\"class\"></td><td role=\"cell\" class=\"size\"></td><td role=\"cell\" class=\"modified\"></td>");
        html.raw("<td role=\"cell\" class=\"acts\">");
        if self.offer.may_below(Verb::Delete, folder) {
            self.delete_link(html, &path, shown);
        }
        html.raw("</td></tr>\n");
    }

    fn object_row(&self, html: &mut Html, name: &Name, meta: &Meta) {
        let shown = self.relative(name.as_str());
        let path = target::path("/files/", name.as_str());
        let bytes = meta.size.to_string();
        self.row(html, "file", name.as_str());
        html.raw(" data-size=\"").text(&bytes).raw("\" data-modified=\"").text(&meta.modified.to_string());
        html.raw("\" data-class=\"").raw(class_name(meta.class)).raw("\"");
        html.raw("><th role=\"rowheader\" scope=\"row\" class=\"name\">")
            .raw(icon!("file"))
            .raw("<a href=\"");
        html.text(&path).raw("\"><bdi>").text(shown).raw("</bdi></a></th>");
        let (class, word) = match meta.class {
            Class::Low => ("low", Word::Low),
            Class::Deep => ("deep", Word::Deep),
        };
        html.raw("<td role=\"cell\" class=\"class\"><span class=\"tag ").raw(class).raw("\">").word(word);
        html.raw("</span></td><td role=\"cell\" class=\"size\"><data value=\"")
            .text(&bytes)
            .raw("\" title=\"");
        html.filled(Word::Bytes, &[("n", &grouped(meta.size))])
            .raw("\">")
            .text(&size(meta.size))
            .raw("</data></td>");
        html.raw("<td role=\"cell\" class=\"modified\"><time datetime=\"")
            .text(&rfc3339(meta.modified))
            .raw("\">");
        html.text(&minute(meta.modified))
            .raw("</time></td><td role=\"cell\" class=\"acts\"><a class=\"act\" href=\"");
        html.text(&path).raw("?download\" download aria-label=\"");
        html.filled(Word::DownloadNamed, &[("name", shown)])
            .raw("\" title=\"")
            .word(Word::Download)
            .raw("\">");
        html.raw(icon!("download")).raw("</a>");
        if self.offer.may(Verb::Delete, name) {
            self.delete_link(html, &path, shown);
        }
        html.raw("</td></tr>\n");
    }

    fn delete_link(&self, html: &mut Html, path: &str, shown: &str) {
        html.raw("<a class=\"act delete\" href=\"").text(path).raw("?delete\" aria-label=\"");
        html.filled(Word::DeleteNamed, &[("name", shown)]).raw("\" title=\"").word(Word::Delete).raw("\">");
        html.raw(icon!("delete")).raw("</a>");
    }

    /// All behind the rows.
    pub(crate) fn tail(&self) -> Vec<u8> {
        let mut html = Html::new(self.language);
        if !self.entries.is_empty() {
            html.raw("</tbody>\n</table>\n");
        }
        if self.is_continued || self.next.is_some() {
            html.raw("<nav class=\"pages\" aria-label=\"").word(Word::Pages).raw("\">");
            if self.is_continued {
                html.raw("<a class=\"button\" href=\"").text(&folder_path(&self.folder)).raw("\">");
                html.word(Word::FirstPage).raw("</a> ");
            }
            if let Some(next) = &self.next {
                html.raw("<a class=\"button\" rel=\"next\" href=\"?after=").text(&target::path("", next));
                html.raw("\">").word(Word::NextPage).raw("</a>");
            }
            html.raw("</nav>\n");
        }
        let n = self.entries.len() as u64;
        let count = match (self.is_complete() || self.next.is_none(), n) {
            (true, n) => counted(self.language, n, Word::OneEntry, Word::ManyEntries),
            (false, n) => fill(Word::MoreEntries.in_(self.language), &[("n", &n.to_string())]),
        };
        html.raw("<p class=\"sum\"><span id=\"count\">").text(&count).raw("</span>");
        if let Some(free) = self.free {
            html.raw(" <span>").filled(Word::Free, &[("size", &size(free))]).raw("</span>");
        }
        html.raw("</p>\n</section>\n</main>\n");
        html.raw("<dialog id=\"ask\" aria-labelledby=\"ask-title\" aria-describedby=\"ask-text\"><form method=\"dialog\"><h2 id=\"ask-title\">");
        html.word(Word::ExistsTitle)
            .raw("</h2><p id=\"ask-text\"></p><p><label><input type=\"checkbox\" id=\"ask-all\"> ");
        html.word(Word::ForAll)
            .raw("</label></p><p class=\"acts\"><button value=\"keep\" autofocus>")
            .word(Word::KeepIt);
        html.raw("</button> <button class=\"danger\" value=\"replace\">").word(Word::ReplaceIt);
        html.raw("</button></p></form></dialog>\n");
        html.raw("<dialog id=\"confirm\" aria-labelledby=\"confirm-title\" aria-describedby=\"confirm-text\"><form method=\"dialog\"><h2 id=\"confirm-title\">");
        html.word(Word::ConfirmFile)
            .raw("</h2><p id=\"confirm-text\"></p><p class=\"acts\"><button value=\"no\" autofocus>");
        html.word(Word::Cancel).raw("</button> <button class=\"danger\" value=\"yes\">").word(Word::Delete);
        html.raw("</button></p></form></dialog>\n");
        close(&mut html);
        html.end()
    }
}

/// A page that says one thing.
fn plain(frame: &Frame<'_>, body: impl FnOnce(&mut Html)) -> Vec<u8> {
    let mut html = Html::new(frame.language);
    open(&mut html, frame);
    html.raw("<body>\n");
    header(&mut html, frame);
    html.raw("<main class=\"plain\">\n<h1>").text(frame.title).raw("</h1>\n");
    body(&mut html);
    html.raw("</main>\n");
    close(&mut html);
    html.end()
}

/// What is asked to be removed.
pub(crate) enum Doomed<'a> {
    Object(&'a Name, &'a Meta),
    /// With so many objects of so many bytes, or more.
    Folder {
        folder: &'a Folder,
        objects: u64,
        bytes: u64,
        is_more: bool,
    },
}

/// Asks whether something is to be removed; the answer is a form.
pub(crate) fn confirm(language: Language, other: &str, doomed: &Doomed<'_>) -> Vec<u8> {
    let (title, path, text, parent) = match doomed {
        Doomed::Object(name, meta) => {
            let values = [("name", name.as_str()), ("size", &size(meta.size))];
            let text = fill(Word::ConfirmFileText.in_(language), &values);
            (Word::ConfirmFile, target::path("/files/", name.as_str()), text, parent(name.as_str()))
        }
        Doomed::Folder { folder, objects, bytes, is_more } => {
            let word = match (is_more, objects) {
                (true, _) => Word::ConfirmFolderMore,
                (false, 1) => Word::ConfirmFolderOne,
                (false, _) => Word::ConfirmFolderMany,
            };
            let name = folder.to_string();
            let values = [("name", name.as_str()), ("n", &objects.to_string()), ("size", &size(*bytes))];
            (
                Word::ConfirmFolder,
                folder_path(folder),
                fill(word.in_(language), &values),
                parent(folder.prefix()),
            )
        }
    };
    let frame = Frame { language, title: title.in_(language), other: Some(other), user: None };
    plain(&frame, |html| {
        html.raw("<p class=\"doomed\"><bdi>")
            .text(&text)
            .raw("</bdi></p>\n<form method=\"post\" action=\"")
            .text(&path);
        html.raw("?delete");
        if matches!(doomed, Doomed::Folder { .. }) {
            html.raw("&amp;recursive");
        }
        html.raw("\"><p class=\"acts\"><a class=\"button\" href=\"")
            .text(&parent)
            .raw("\">")
            .word(Word::Cancel);
        html.raw("</a> <button class=\"danger\">").word(Word::Delete).raw("</button></p></form>\n");
    })
}

/// The path of the folder that something is in.
pub(crate) fn parent(name: &str) -> String {
    match name.trim_end_matches('/').rsplit_once('/') {
        Some((above, _)) => target::path("/files/", &format!("{above}/")),
        None => "/".to_owned(),
    }
}

/// What was not stored of a form: its name, and why.
pub(crate) struct Failed<'a> {
    pub(crate) name: &'a str,
    pub(crate) code: &'a str,
    pub(crate) message: &'a str,
}

/// Says what of a form was stored and what was not.
pub(crate) fn partly<'a>(
    language: Language,
    folder: &Folder,
    stored: u64,
    failed: impl Iterator<Item = Failed<'a>>,
    more: u64,
) -> Vec<u8> {
    let frame = Frame { language, title: Word::SomeFailed.in_(language), other: None, user: None };
    plain(&frame, |html| {
        let text = match stored {
            0 => Word::StoredNone.in_(language).to_owned(),
            n => counted(language, n, Word::StoredOne, Word::StoredMany),
        };
        html.raw("<p>").text(&text).raw("</p>\n<ul class=\"failures\">\n");
        for failed in failed {
            let why = match failed.code {
                "precondition_failed" => Word::Exists.in_(language),
                code => words::problem(language, code).unwrap_or(failed.message),
            };
            html.raw("<li><b><bdi>").text(failed.name).raw("</bdi></b>: ").text(why).raw("</li>\n");
        }
        if more > 0 {
            html.raw("<li>").filled(Word::AndMore, &[("n", &more.to_string())]).raw("</li>\n");
        }
        html.raw("</ul>\n<p class=\"acts\"><a class=\"button\" href=\"")
            .text(&folder_path(folder))
            .raw("\">");
        html.word(Word::BackToFolder).raw("</a></p>\n");
    })
}

/// Says why something was not done.
pub(crate) fn problem(
    language: Language,
    status: u16,
    code: &str,
    message: &str,
    name: Option<&str>,
) -> Vec<u8> {
    let title = match status {
        401 => Word::UnauthorizedTitle,
        403 => Word::ForbiddenTitle,
        404 => Word::NotFoundTitle,
        _ => Word::ProblemTitle,
    };
    let frame = Frame { language, title: title.in_(language), other: None, user: None };
    plain(&frame, |html| {
        if let Some(text) = words::problem(language, code) {
            html.raw("<p class=\"why\">").text(text).raw("</p>\n");
            if let Some(name) = name {
                html.raw("<p class=\"about\"><bdi>").text(name).raw("</bdi></p>\n");
            }
        } else {
            html.raw("<p class=\"why\" lang=\"en\">").text(message).raw("</p>\n");
        }
        html.raw("<p class=\"code\">").text(&status.to_string()).raw(" ").text(code);
        html.raw("</p>\n<p class=\"acts\"><a class=\"button\" href=\"/\">")
            .word(Word::BackToFiles)
            .raw("</a></p>\n");
    })
}

/// A size as people read it: `1.5 MB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let rounded = |scale: u128| (u128::from(bytes) * 10 + scale / 2) / scale;
    let mut scale = 1000;
    for unit in UNITS {
        let (tenths, whole) = (rounded(scale), (u128::from(bytes) + scale / 2) / scale);
        if tenths < 1000 && tenths % 10 != 0 {
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
        if whole < 1000 {
            return format!("{whole} {unit}");
        }
        scale *= 1000;
    }
    // More than there can be.
    format!("{bytes} B")
}

/// `1,234,567`
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `2026-09-12 14:03 UTC`; a script makes it local.
fn minute(micros: i64) -> String {
    let text = rfc3339(micros);
    match (text.get(..10), text.get(11..16)) {
        (Some(day), Some(time)) => format!("{day} {time} UTC"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Version;

    const EVIL: [&str; 6] = [
        "<script>alert(1)<",
        "\"onmouseover=\"alert(1)",
        "'><img src=x onerror=alert(1)>",
        "</title></textarea><svg onload=alert(1)>",
        "javascript:alert(1)",
        "&lt;b&gt; &#x3c;{name}",
    ];

    fn meta(size: u64, class: Class) -> Meta {
        Meta {
            version: Version(1),
            class,
            size,
            stored: size,
            crc32c: 0,
            sha256: None,
            modified: 1_000_000_000_000_000,
            created: 0,
        }
    }

    fn view(folder: &str, entries: Vec<Entry>) -> View {
        View {
            language: Language::En,
            folder: Folder::parse(folder).unwrap(),
            entries,
            next: None,
            is_continued: false,
            sort: Sort::Name,
            is_too_long_to_sort: false,
            find: None,
            is_cut: false,
            flash: None,
            free: None,
            other: "?lang=zh".to_owned(),
            user: Some("anna".to_owned()),
            scope: Scope::all(),
            offer: Grant::everybody(),
        }
    }

    fn whole(view: &View) -> String {
        String::from_utf8([view.head(), view.rows(0, usize::MAX), view.tail()].concat()).unwrap()
    }

    /// Everything between `<` and `>`, which is all that a browser takes for markup here.
    fn tags(html: &str) -> Vec<&str> {
        html.split('<').skip(1).map(|rest| rest.split_once('>').unwrap().0).collect()
    }

    #[test]
    fn names_are_text_wherever_they_stand() {
        for evil in EVIL {
            let object = |name: String| Entry::Object {
                name: Name::parse(&name).unwrap(),
                meta: meta(5, Class::Deep),
                accessed: None,
            };
            let make = |evil: &str| {
                let folder = Folder::parse(&format!("{evil}/{evil}/")).unwrap();
                let entries = vec![
                    Entry::Folder(Folder::parse(&format!("{evil}/{evil}/{evil}/")).unwrap()),
                    object(format!("{evil}/{evil}/{evil}.txt")),
                ];
                let mut view = view(folder.prefix(), entries);
                view.find = Some(evil.to_owned());
                view.next = Some(format!("{evil}/{evil}/{evil}"));
                let name = Name::parse(&format!("{evil}/a")).unwrap();
                let failed = [Failed { name: evil, code: "x", message: evil }].into_iter();
                let doomed = Doomed::Folder { folder: &folder, objects: 3, bytes: 5, is_more: false };
                let pages = [
                    whole(&view),
                    String::from_utf8(confirm(
                        Language::En,
                        evil,
                        &Doomed::Object(&name, &meta(5, Class::Low)),
                    ))
                    .unwrap(),
                    String::from_utf8(confirm(Language::En, evil, &doomed)).unwrap(),
                    String::from_utf8(partly(Language::En, &folder, 1, failed, 2)).unwrap(),
                    String::from_utf8(problem(Language::En, 404, "x", evil, Some(evil))).unwrap(),
                    String::from_utf8(problem(Language::Zh, 404, "not_found", evil, Some(evil))).unwrap(),
                ];
                pages.concat()
            };
            // The same elements with the same attributes as for a harmless name of as many parts.
            let parts = evil.matches('/').count();
            let harmless = ["x"].repeat(parts + 1).join("/");
            let shape = |html: &str| -> Vec<Vec<String>> {
                let names = |tag: &str| tag.split('"').step_by(2).map(str::to_owned).collect();
                tags(html).into_iter().map(names).collect()
            };
            assert_eq!(shape(&make(evil)), shape(&make(&harmless)), "{evil}");
            for tag in tags(&make(evil)) {
                if let Some((_, rest)) = tag.split_once(" href=\"") {
                    let is_path = ["/", "?", "#"].iter().any(|start| rest.starts_with(start));
                    // What stands for this page in the other language is made by the server.
                    assert!(is_path || tag.contains("hreflang"), "{tag}");
                }
                let mut outside = tag.split('"').step_by(2);
                assert!(outside.all(|text| !text.contains(" style=") && !text.starts_with(" on")), "{tag}");
            }
        }
    }

    #[test]
    fn a_folder_shows_what_is_in_it() {
        let entries = vec![
            Entry::Folder(Folder::parse("a/sub/").unwrap()),
            Entry::Object {
                name: Name::parse("a/\u{6a21}.bin").unwrap(),
                meta: meta(1_234_567, Class::Deep),
                accessed: None,
            },
        ];
        let mut view = view("a/", entries);
        let html = whole(&view);
        for expected in [
            "<li><a href=\"/\">Files</a></li><li><h1 aria-current=\"page\"><bdi>a</bdi></h1></li>",
            "href=\"/files/a/sub/\"><bdi>sub</bdi>",
            "href=\"/files/a/%E6%A8%A1.bin\"><bdi>\u{6a21}.bin</bdi>",
            "href=\"/files/a/%E6%A8%A1.bin?download\" download aria-label=\"Download \u{6a21}.bin\"",
            "href=\"/files/a/sub/?delete\" aria-label=\"Delete sub\"",
            "title=\"1,234,567 bytes\">1.2 MB</data>",
            "<time datetime=\"2001-09-09T01:46:40.000000Z\">2001-09-09 01:46 UTC</time>",
            "<span class=\"tag deep\">Deep</span>",
            "class=\"name\" aria-sort=\"ascending\"><a href=\"?sort=-name\"",
            "class=\"size\"><a href=\"?sort=size\"",
            "action=\"/files/a/\"",
            "data-complete=\"yes\"",
            "<span id=\"count\">2 entries</span>",
        ] {
            assert!(html.contains(expected), "{expected}\n{html}");
        }
        view.sort = Sort::By(Key::Size, Order::Up);
        view.next = Some("a/b c".to_owned());
        view.is_continued = true;
        view.flash = Some(Flash::Stored(3));
        view.language = Language::Zh;
        let html = whole(&view);
        for expected in [
            "<html lang=\"zh\">",
            "class=\"size\" aria-sort=\"ascending\"><a href=\"?sort=-size\"",
            "href=\"?after=a/b%20c\">下一页",
            "data-complete=\"no\"",
            "已上传 3 个文件。",
            "lang=\"en\" hreflang=\"en\">English</a>",
        ] {
            assert!(html.contains(expected), "{expected}");
        }
    }

    #[test]
    fn only_known_messages_are_shown() {
        for flash in [Flash::Stored(1), Flash::Removed, Flash::RemovedFolder(7), Flash::Nothing] {
            let query = flash.query();
            let (word, n) = query.trim_start_matches("?done=").split_once("&n=").unwrap_or((&query[6..], ""));
            assert_eq!(Flash::of(word, n), Some(flash));
        }
        for (word, n) in [("", ""), ("stored", ""), ("stored", "<b>"), ("stored", "-1"), ("hello", "1")] {
            assert_eq!(Flash::of(word, n), None);
        }
    }

    #[test]
    fn sizes() {
        for (bytes, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1 kB"),
            (1234, "1.2 kB"),
            (1999, "2 kB"),
            (12_345, "12.3 kB"),
            (123_456, "123 kB"),
            (999_499, "999 kB"),
            (999_500, "1 MB"),
            (52_428_800, "52.4 MB"),
            (1 << 30, "1.1 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(size(bytes), expected, "{bytes}");
        }
        assert_eq!(
            [grouped(0), grouped(999), grouped(1000), grouped(1_234_567)],
            ["0", "999", "1,000", "1,234,567"]
        );
    }
}
