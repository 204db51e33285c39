//! What the page says, in English and Chinese. `{…}` are places that are filled in.

use crate::server::accept::Language;

macro_rules! words {
    ($($word:ident $en:literal $zh:literal)*) => {
        /// A text that the server writes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Word {
            $(#[doc = $en] $word,)*
        }

        impl Word {
            #[cfg(test)]
            const ALL: &[Word] = &[$(Word::$word),*];

            /// The text in a language.
            pub(crate) fn in_(self, language: Language) -> &'static str {
                match (self, language) {
                    $((Word::$word, Language::En) => $en,
                    (Word::$word, Language::Zh) => $zh,)*
                }
            }
        }
    };
}

words! {
    SkipToList "Skip to the list" "跳到列表"
    Files "Files" "文件"
    SignedIn "Signed in as {name}" "用户：{name}"
    Path "Path" "路径"
    LanguageLabel "Language" "语言"
    Upload "Upload" "上传"
    ChooseFiles "Choose files" "选择文件"
    ChooseFolder "Choose a folder" "选择文件夹"
    DropHint "or drop files and folders anywhere on this page, or paste them" "或将文件和文件夹拖放到页面任意位置，也可以直接粘贴"
    DropHere "Drop to upload here" "松开鼠标即可上传到此处"
    FilesLabel "Files to upload" "要上传的文件"
    ClassLabel "Class" "存储类别"
    Low "Low" "普通"
    LowHint "stored as it is" "按原样保存"
    Deep "Deep" "深度"
    DeepHint "packed, for what is rarely read" "压缩保存，适合很少读取的文件"
    Subfolder "Into a subfolder" "上传到子文件夹"
    SubfolderHint "made if it is not there; empty for this folder" "不存在时会自动创建；留空则上传到当前文件夹"
    Replace "Replace files of the same name" "替换同名文件"
    NoUpload "You may look at what is here and download it, but not upload." "您可以查看和下载此处的文件，但不能上传。"
    Find "Search" "搜索"
    FindLabel "Search this folder" "在此文件夹中搜索"
    FindHint "Typing filters the list; Enter searches the folders below too." "输入时筛选列表；按回车键同时搜索下级文件夹。"
    FoundTitle "Search for “{text}”" "搜索“{text}”"
    OneFound "1 file found in {folder} and below" "在 {folder} 及其下级文件夹中找到 1 个文件"
    ManyFound "{n} files found in {folder} and below" "在 {folder} 及其下级文件夹中找到 {n} 个文件"
    NoneFound "No file is called so." "没有找到这样的文件。"
    FindCut "There may be more: search further down, or for a longer text." "可能还有更多结果：请进入下级文件夹搜索，或输入更长的文字。"
    EndSearch "Back to the folder" "返回文件夹"
    Name "Name" "名称"
    Size "Size" "大小"
    Changed "Changed" "修改时间"
    Actions "Actions" "操作"
    Caption "Files and folders in {folder}" "{folder} 中的文件和文件夹"
    SortBy "Sort by {column}" "按{column}排序"
    FolderKind "Folder" "文件夹"
    Download "Download" "下载"
    DownloadNamed "Download {name}" "下载 {name}"
    DeleteNamed "Delete {name}" "删除 {name}"
    Bytes "{n} bytes" "{n} 字节"
    Empty "There is nothing in this folder yet." "此文件夹中还没有内容。"
    Pages "Pages" "分页"
    FirstPage "First page" "第一页"
    NextPage "Next page" "下一页"
    TooManyToSort "This folder has more than {n} entries, so it is sorted by name only." "此文件夹超过 {n} 项，因此只能按名称排序。"
    OneEntry "1 entry" "1 项"
    ManyEntries "{n} entries" "{n} 项"
    MoreEntries "{n} entries on this page, more follow" "本页 {n} 项，后面还有更多"
    Free "{size} free" "剩余 {size}"
    ConfirmFile "Delete this file?" "删除此文件？"
    ConfirmFileText "“{name}” ({size}) will be gone for good." "“{name}”（{size}）将被永久删除。"
    ConfirmFolder "Delete this folder?" "删除此文件夹？"
    ConfirmFolderOne "“{name}” and the 1 file in it ({size}) will be gone for good." "“{name}”及其中的 1 个文件（{size}）将被永久删除。"
    ConfirmFolderMany "“{name}” and the {n} files in it ({size}) will be gone for good." "“{name}”及其中的 {n} 个文件（{size}）将被永久删除。"
    ConfirmFolderMore "“{name}” and more than {n} files in it (over {size}) will be gone for good." "“{name}”及其中的 {n} 多个文件（超过 {size}）将被永久删除。"
    Delete "Delete" "删除"
    Cancel "Cancel" "取消"
    DoneStoredOne "1 file was uploaded." "已上传 1 个文件。"
    DoneStoredMany "{n} files were uploaded." "已上传 {n} 个文件。"
    DoneRemoved "The file was deleted." "文件已删除。"
    DoneFolderOne "The folder was deleted, with 1 file in it." "文件夹及其中的 1 个文件已删除。"
    DoneFolderMany "The folder was deleted, with {n} files in it." "文件夹及其中的 {n} 个文件已删除。"
    DoneNothing "No file was chosen, so nothing was uploaded." "没有选择文件，因此没有上传任何内容。"
    SomeFailed "Not everything was uploaded" "部分文件未能上传"
    StoredNone "No file was uploaded. These could not be:" "没有上传任何文件。以下文件未能上传："
    StoredOne "1 file was uploaded. These could not be:" "已上传 1 个文件。以下文件未能上传："
    StoredMany "{n} files were uploaded. These could not be:" "已上传 {n} 个文件。以下文件未能上传："
    AndMore "and {n} more" "另外还有 {n} 个"
    Exists "a file of this name is there already; to replace it, choose it again and tick “Replace files of the same name”" "已有同名文件；如需替换，请重新选择该文件并勾选“替换同名文件”"
    BackToFolder "Back to the folder" "返回文件夹"
    BackToFiles "To the files" "返回文件列表"
    ProblemTitle "This did not work" "操作未完成"
    NotFoundTitle "Nothing is here" "没有找到"
    UnauthorizedTitle "Please sign in" "请先登录"
    ForbiddenTitle "This is not allowed" "没有权限"
    Uploads "Uploads" "上传任务"
    CancelAll "Cancel all" "全部取消"
    Clear "Clear the list" "清空列表"
    AllProgress "Progress of all uploads" "全部上传的进度"
    ExistsTitle "Replace this file?" "替换此文件？"
    ReplaceIt "Replace" "替换"
    KeepIt "Keep the old one" "保留原文件"
    ForAll "Do the same for all others" "对其余同名文件执行相同操作"
}

/// What the script says: a key, English, Chinese.
pub(crate) const SCRIPT: &[(&str, &str, &str)] = &[
    ("waiting", "waiting", "等待中"),
    ("progress", "{done} of {total}", "{done} / {total}"),
    ("rate", "{rate}/s", "{rate}/秒"),
    ("left", "{time} left", "剩余 {time}"),
    ("finishing", "being stored", "正在保存"),
    ("stored", "uploaded", "已上传"),
    ("replaced", "uploaded, the old one was replaced", "已上传并替换原文件"),
    ("kept", "not uploaded: the old one was kept", "未上传：保留了原文件"),
    ("cancelled", "cancelled", "已取消"),
    ("failed", "failed: {why}", "失败：{why}"),
    ("unreachable", "the connection to the server was lost; try again", "与服务器的连接已中断，请重试"),
    ("noFolder", "no part of a folder's name is . or .. alone", "文件夹名称的任何部分都不能是 . 或 .."),
    ("status", "the server answered {status}; try again", "服务器返回 {status}，请重试"),
    ("cancel", "Cancel", "取消"),
    ("retry", "Retry", "重试"),
    ("cancelNamed", "Cancel {name}", "取消上传 {name}"),
    ("retryNamed", "Retry {name}", "重试上传 {name}"),
    ("progressNamed", "Progress of {name}", "{name} 的上传进度"),
    ("summary", "{done} of {n} files", "{done} / {n} 个文件"),
    ("summaryFailed", "{failed} failed", "{failed} 个失败"),
    ("begunOne", "Uploading 1 file.", "正在上传 1 个文件。"),
    ("begunMany", "Uploading {n} files.", "正在上传 {n} 个文件。"),
    ("overOne", "1 file was uploaded.", "已上传 1 个文件。"),
    ("overMany", "{n} files were uploaded.", "已上传 {n} 个文件。"),
    ("overFailed", "{n} could not be uploaded.", "{n} 个未能上传。"),
    ("exists", "“{name}” is there already.", "“{name}”已存在。"),
    ("confirmFile", "“{name}” ({size}) will be gone for good.", "“{name}”（{size}）将被永久删除。"),
    (
        "confirmFolderOne",
        "“{name}” and the 1 file in it ({size}) will be gone for good.",
        "“{name}”及其中的 1 个文件（{size}）将被永久删除。",
    ),
    (
        "confirmFolderMany",
        "“{name}” and the {n} files in it ({size}) will be gone for good.",
        "“{name}”及其中的 {n} 个文件（{size}）将被永久删除。",
    ),
    (
        "confirmFolderMore",
        "“{name}” and more than {n} files in it will be gone for good.",
        "“{name}”及其中的 {n} 多个文件将被永久删除。",
    ),
    ("confirmFileTitle", "Delete this file?", "删除此文件？"),
    ("confirmFolderTitle", "Delete this folder?", "删除此文件夹？"),
    ("deleted", "“{name}” was deleted.", "“{name}”已删除。"),
    ("notDeleted", "“{name}” was not deleted: {why}", "“{name}”未能删除：{why}"),
    ("sorted", "Sorted by {column}.", "已按{column}排序。"),
    ("filteredOne", "1 entry matches.", "1 项匹配。"),
    ("filteredMany", "{n} entries match.", "{n} 项匹配。"),
    (
        "filteredNone",
        "No entry matches; Enter searches the folders below.",
        "没有匹配项；按回车键搜索下级文件夹。",
    ),
    ("empty", "No files were found in what was chosen.", "所选内容中没有文件。"),
    ("leave", "Uploads are under way.", "正在上传文件。"),
    ("seconds", "{n} s", "{n} 秒"),
    ("minutes", "{n} min", "{n} 分钟"),
    ("hours", "{n} h", "{n} 小时"),
];

/// What went wrong, by the code of a problem, in Chinese. In English a problem speaks for itself.
const PROBLEMS: &[(&str, &str)] = &[
    ("below_object", "路径中的某一部分是文件，不能作为文件夹使用。"),
    ("class_invalid", "存储类别无效：请选择“普通”或“深度”。"),
    ("content_coding", "不接受经过编码的内容：请发送原始数据。"),
    ("damaged", "文件已损坏，与写入时的内容不一致。"),
    ("digest_invalid", "校验值的格式不正确。"),
    ("digest_mismatch", "收到的内容与校验值不符，未保存：请重新发送。"),
    ("disk_full", "服务器磁盘空间不足：请先删除一些文件。"),
    ("forbidden", "您没有执行此操作的权限。"),
    ("foreign_origin", "来自其他网站的页面不能在这里进行更改。"),
    ("form_body", "这里不接受表单：请发送原始数据。"),
    ("form_expected", "这里需要包含文件的表单。"),
    ("form_invalid", "表单数据不完整或格式不正确：请重新上传。"),
    ("header_invalid", "请求头的格式不正确。"),
    ("index_busy", "索引正在检查中：请稍后再试。"),
    ("into_itself", "不能把文件夹放到它自己里面。"),
    ("is_folder", "这个名称是一个文件夹。"),
    ("length_required", "请求没有内容：请附上文件内容。"),
    ("list_invalid", "导入的列表中有无法读取的行。"),
    ("method_not_allowed", "此地址不支持该操作。"),
    ("misdirected", "请求的主机名不属于此服务器：请使用服务器的地址。"),
    (
        "name_invalid",
        "名称无效：名称不能为空，不能超过 250 字节，不能含有反斜杠、控制字符或 . 与 .. 这样的部分。",
    ),
    ("name_missing", "缺少文件名。"),
    ("no_backlog", "没有配置日志服务器。"),
    ("no_such_path", "这个地址没有内容。"),
    ("not_found", "没有这个文件或文件夹：它可能已被删除或改名。"),
    ("occupied", "该位置已被其他文件占用。"),
    ("packed_clash", "该位置已被另一个压缩文件占用。"),
    ("parameter_invalid", "地址中的参数无效。"),
    ("partial_put", "不能只写入文件的一部分：请发送完整内容。"),
    ("precondition_failed", "文件已被他人更改或已存在：请刷新后再试。"),
    ("range_not_satisfiable", "请求的范围超出了文件的大小。"),
    ("storage_failed", "服务器的存储发生故障：请稍后再试。"),
    ("time_invalid", "文件时间无效。"),
    ("too_large", "文件太大，超过了服务器允许的大小。"),
    ("too_many_attempts", "密码错误次数过多：请稍后再试。"),
    ("too_many_files", "服务器繁忙：请稍后再试。"),
    ("too_many_logins", "正在验证的登录过多：请稍后再试。"),
    ("too_many_to_sort", "此文件夹的内容太多，只能按名称排序。"),
    ("unauthorized", "需要登录：请输入用户名和密码。"),
];

/// What a problem is called in a language, if its own message is not in that.
pub(crate) fn problem(language: Language, code: &str) -> Option<&'static str> {
    let at = PROBLEMS.binary_search_by(|(known, _)| (*known).cmp(code)).ok()?;
    (language == Language::Zh).then(|| PROBLEMS.get(at).map(|(_, text)| *text)).flatten()
}

/// The texts of the script, and those of problems, as JSON.
pub(crate) fn for_script(language: Language) -> (String, String) {
    let words = SCRIPT.iter().map(|(key, en, zh)| {
        let text = if language == Language::En { en } else { zh };
        ((*key).to_owned(), serde_json::Value::from(*text))
    });
    let problems = PROBLEMS
        .iter()
        .filter(|_| language == Language::Zh)
        .map(|(code, text)| ((*code).to_owned(), serde_json::Value::from(*text)));
    let json = |pairs: serde_json::Map<_, _>| serde_json::Value::Object(pairs).to_string();
    (json(words.collect()), json(problems.collect()))
}

/// Fills in the places of a text.
pub(crate) fn fill(text: &str, values: &[(&str, &str)]) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len() + 32), text);
    while let Some((before, behind)) = rest.split_once('{') {
        out.push_str(before);
        let Some((key, after)) = behind.split_once('}') else { return out };
        out.push_str(values.iter().find(|(have, _)| *have == key).map_or("", |(_, value)| value));
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn places(text: &str) -> BTreeSet<&str> {
        text.split('{').skip(1).map(|rest| rest.split_once('}').unwrap().0).collect()
    }

    fn is_chinese(text: &str) -> bool {
        text.chars().any(|character| ('\u{4e00}'..='\u{9fff}').contains(&character))
    }

    #[test]
    fn every_text_is_there_in_both_languages() {
        let of_server = Word::ALL
            .iter()
            .map(|word| (format!("{word:?}"), word.in_(Language::En), word.in_(Language::Zh)));
        let of_script = SCRIPT.iter().map(|(key, en, zh)| ((*key).to_owned(), *en, *zh));
        for (key, en, zh) in of_server.chain(of_script) {
            assert!(!en.is_empty() && !is_chinese(en), "{key}");
            assert!(is_chinese(zh) || key == "progress", "{key}");
            assert_eq!(places(en), places(zh), "{key}");
        }
    }

    #[test]
    fn the_script_says_what_there_is_and_nothing_else() {
        let script = include_str!("page.js");
        let used: BTreeSet<&str> = script
            .split("say(\"")
            .skip(1)
            .chain(script.split("plural(\"").skip(1))
            .map(|rest| rest.split_once('"').unwrap().0)
            .collect();
        let mut known = BTreeSet::new();
        for (key, ..) in SCRIPT {
            let stem = key.strip_suffix("One").or(key.strip_suffix("Many")).unwrap_or(key);
            known.insert(stem);
        }
        assert_eq!(used, known);
    }

    #[test]
    fn problems_are_in_order_and_cover_what_is_documented() {
        assert!(PROBLEMS.is_sorted_by(|(a, _), (b, _)| a < b));
        assert!(PROBLEMS.iter().all(|(_, text)| is_chinese(text)));
        let documented = include_str!("../../../docs/http.md");
        let table = documented.split("| Status | `error` | What |").nth(1).unwrap();
        for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
            let codes = row.split('|').nth(2).unwrap();
            for code in codes.split('`').skip(1).step_by(2) {
                assert!(problem(Language::Zh, code).is_some(), "{code}");
                assert_eq!(problem(Language::En, code), None);
            }
        }
    }

    #[test]
    fn places_are_filled_once() {
        assert_eq!(fill("{a} of {b}, {c}", &[("a", "{b}"), ("b", "<2>")]), "{b} of <2>, ");
        assert_eq!(fill("plain {", &[]), "plain ");
        assert_eq!(fill("", &[]), "");
    }
}
