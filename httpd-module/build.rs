//! Makes the bindings to httpd and APR from the headers of the httpd that is installed, and the rows of the directives
//! from `conf/directives.toml`.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The table of directives.
const DIRECTIVES: &str = "../conf/directives.toml";

/// What the parser takes from the table; the rest of a row is for `scripts/gen-docs`.
#[derive(serde::Deserialize)]
struct Table {
    directive: Vec<Directive>,
}

#[derive(serde::Deserialize)]
struct Directive {
    name: String,
    arguments: String,
    context: Context,
    /// A Rust expression.
    parse: String,
}

/// The variants of `config::directives::Context`.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Context {
    Everywhere,
    Sections,
    Auth,
    FileInfo,
    Servers,
    Main,
}

/// Functions that the module calls.
const FUNCTIONS: &[&str] = &[
    "ap_(pregcomp|regexec)|apr_fnmatch",
    "ap_(find_linked_module|register_auth_provider)|apr_dynamic_fn_retrieve",
    "ap_(add_(common_vars|cgi_vars|input_filter|output_filter|version_component)|allow_methods|auth_name|auth_type)",
    "ap_(bucket_error_create|bucket_eor_create|construct_url|discard_request_body|document_root|exists_config_define)",
    "ap_(get_(basic_auth_pw|brigade|loglevel|module_config|output_filter_handle|input_filter_handle|server_banner|useragent_host|remote_logname|limit_req_body))",
    "ap_(set_module_config|getword_conf|internal_redirect|log_[crs]?error_|meets_conditions|mpm_query|pass_brigade)",
    "ap_hook_(access_checker|auth_checker|check_config|check_user_id|child_init|child_stopping|fixups|handler|header_parser|insert_error_filter|insert_filter|log_transaction|map_to_storage|monitor|post_config|post_read_request|pre_config|pre_connection|process_connection|translate_name|type_checker|child_status|end_generation)",
    "ap_(register_input_filter|register_output_filter|remove_input_filter|remove_output_filter|retained_data_create|retained_data_get)",
    "ap_(server_root_relative|runtime_dir_relative|set_content_length|set_content_type|set_etag|set_last_modified|should_client_block|setup_client_block)",
    "ap_get_conn_socket|ap_get_scoreboard_worker_from_indexes|apr_os_sock_get",
    "ap_(state_query|update_mtime|ssl_conn_is_ssl|ssl_var_lookup|some_auth_required|requires|get_status_line|context_document_root|escape_logitem|show_mpm|is_initial_req)",
    "ap_(str_tolower|check_cmd_context|filter_flush|fflush|set_keepalive|os_is_path_absolute|log_command_line|directory_walk|cfg_getline)",
    "apr_(array_make|array_push|brigade_cleanup|brigade_create|brigade_destroy|brigade_length|brigade_write|brigade_insert_file|brigade_split_ex)",
    "apr_(bucket_alloc|bucket_free|bucket_eos_create|bucket_flush_create|bucket_heap_create|bucket_transient_create|bucket_file_create|bucket_file_enable_mmap|bucket_setaside_noop)",
    "apr_(os_file_put|file_close|palloc|pcalloc|pstrdup|pstrmemdup|pool_(cleanup_register|pre_cleanup_register)|pool_cleanup_kill|pool_cleanup_null|pool_userdata_get|pool_userdata_set|pool_create_ex|pool_destroy)",
    "apr_(proc_other_child_register|proc_other_child_unregister|sockaddr_ip_get|strerror|time_now)",
    "apr_table_(add|addn|clear|copy|do|get|make|merge|set|setn|unset|elts)",
];

/// Types that are named by themselves.
const TYPES: &[&str] = &[
    "request_rec",
    "conn_rec",
    "server_rec",
    "command_rec",
    "cmd_parms",
    "module",
    "core_server_config",
    "ap_filter_t",
    "ap_filter_rec_t",
    "ap_directive_t",
    "authn_provider",
    "authz_provider",
    "include_ctx_t",
    "ap_bucket_error",
    "apr_bucket",
    "apr_bucket_brigade",
    "apr_bucket_type_t",
    "apr_table_entry_t",
    "apr_proc_t",
    "unixd_config_rec",
    "overrides_t",
];

/// Constants and variables.
const VARS: &[&str] = &[
    "OK|DECLINED|DONE|SUSPENDED|HTTP_.*|OR_.*|ACCESS_CONF|RSRC_CONF|EXEC_ON_READ|M_.*|METHODS",
    "SERVER_READY|AP_MPMQ_.*|AP_SQ_.*|AP_FTYPE_.*|AP_MODE_.*|AP_SERVER_.*|MODULE_MAGIC_.*|APLOG_.*|APR_HOOK_.*",
    "APR_FINFO_.*|APR_NOFILE|APR_UNKFILE|APR_OC_REASON_.*|APR_SUCCESS|APR_EOF|APR_TIMEUP|APR_READ|APR_FOPEN_.*|APR_BLOCK_READ|APR_NONBLOCK_READ|APR_OS_START.*",
    "ap_conftree|AUTH_.*|AUTHZ_.*|AUTHN_.*|AP_AUTH_INTERNAL_.*|SSI_FLAG_.*|SSI_VALUE_.*|APR_FNM_PATHNAME|AP_FILTER_ERROR|REQUEST_.*",
    "ap_unixd_config|ap_server_conf|ap_server_root|ap_runtime_dir|apr_bucket_type_.*|ap_bucket_type_error|ap_bucket_type_eor|GET_ONLY_.*|NOT_IN_.*|REMOTE_.*",
];

fn output(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().unwrap_or_else(|e| {
        panic!(
            "cannot run {program}: {e}. Install httpd's development files \
             (Debian: apt-get install apache2-dev libclang-dev; scripts/setup does it)."
        )
    });
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// Writes `directives.rs`: the constant `ROWS`.
fn write_directives(out: &Path) {
    println!("cargo::rerun-if-changed={DIRECTIVES}");
    let text = std::fs::read_to_string(DIRECTIVES)
        .unwrap_or_else(|e| panic!("cannot read the table of directives, {DIRECTIVES}: {e}"));
    let table: Table = toml::from_str(&text).unwrap_or_else(|e| panic!("{DIRECTIVES}: {e}"));
    let mut code = String::from(
        "/// All directives, from `conf/directives.toml`.\npub(crate) const ROWS: &[Row] = &[\n",
    );
    for (i, row) in table.directive.iter().enumerate() {
        let Directive { name, arguments, context, parse } = row;
        // httpd looks directives up without regard to case.
        let again = table.directive[..i].iter().any(|r| r.name.eq_ignore_ascii_case(name));
        assert!(!again, "{DIRECTIVES}: {name} is there twice");
        let usage = format!("{name} {arguments}");
        writeln!(
            code,
            "    Row {{ name: {name:?}, context: Context::{context:?}, usage: {usage:?}, parse: {parse} }},"
        )
        .expect("writing into a string cannot fail");
    }
    code.push_str("];\n");
    let file = out.join("directives.rs");
    std::fs::write(&file, code).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
}

fn main() {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    write_directives(&out);
    println!("cargo::rerun-if-changed=wrapper.h");
    println!("cargo::rerun-if-changed=build.rs");
    // httpd closes and opens the module on every reload. Staying mapped keeps statics and callbacks valid.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");

    let apxs = std::env::var("APXS").unwrap_or_else(|_| "apxs".into());
    println!("cargo::rerun-if-env-changed=APXS");
    let mut args = vec![format!("-I{}", output(&apxs, &["-q", "INCLUDEDIR"]))];
    for config in ["APR_CONFIG", "APU_CONFIG"] {
        let program = output(&apxs, &["-q", config]);
        let program = if program.is_empty() {
            if config == "APR_CONFIG" { "apr-1-config".into() } else { "apu-1-config".into() }
        } else {
            program
        };
        let flags = if config == "APR_CONFIG" {
            &["--cppflags", "--includes"][..]
        } else {
            &["--includes"][..]
        };
        args.extend(output(&program, flags).split_whitespace().map(str::to_owned));
    }

    let mut builder = bindgen::Builder::default()
        .header("wrapper.h")
        .clang_args(args)
        .use_core()
        .wrap_unsafe_ops(true)
        .generate_comments(false)
        .generate_cstr(true)
        .default_macro_constant_type(bindgen::MacroTypeVariation::Signed)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .rust_target(bindgen::RustTarget::stable(88, 0).unwrap_or_default())
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .derive_debug(false);
    for f in FUNCTIONS {
        builder = builder.allowlist_function(f);
    }
    for t in TYPES {
        builder = builder.allowlist_type(t);
    }
    for v in VARS {
        builder = builder.allowlist_var(v);
    }
    let bindings = builder.generate().expect("bindgen: the httpd headers cannot be read");
    bindings.write_to_file(out.join("bindings.rs")).expect("OUT_DIR is writable");
}
