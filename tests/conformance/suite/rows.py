"""The rows of mod_python's API that the cases stand for: each has at least one case, and each case has one of them."""

# Section -> (title, rows). A row's full name, as cases have it, is "SECTION.ROW".
SECTIONS = {
    "1": ("Configuration directives", (
        "PythonPostReadRequestHandler", "PythonTransHandler", "PythonInitHandler", "PythonHeaderParserHandler",
        "PythonAccessHandler", "PythonAuthenHandler", "PythonAuthzHandler", "PythonTypeHandler", "PythonFixupHandler",
        "PythonHandler", "PythonLogHandler", "PythonCleanupHandler", "PythonConnectionHandler",
        "PythonInputFilter / PythonOutputFilter", "PythonHandlerModule", "PythonImport", "PythonPath",
        "PythonInterpreter",
        "PythonInterpPerDirectory", "PythonInterpPerDirective", "PythonAutoReload", "PythonDebug", "PythonEnablePdb",
        "PythonOptimize", "PythonOption", "kinds of arguments", "in .htaccess", "merging", "other effects of loading",
    )),
    "2": ("Handler strings", (
        "syntax", "one handler", "object with dots", "| .ext", "path-like modules", "search path", "Location",
        "stacking",
        "last code", "req.add_handler(phase, handler[, dir])", "req.hlist", "interpreter name", "filters' interpreter",
    )),
    "3": ("Results and errors", (
        "apache.OK / DECLINED / DONE", "HTTP_xxx int", "req.status = N and return OK", "non-int (None, str, bool)",
        "handler attribute is None", "odd ints (1, 999, -5)", "SERVER_RETURN(code) / (code, status)",
        "exception, PythonDebug Off", "exception, PythonDebug On", "SystemExit in handler", "in a filter", "in SSI",
        "in PythonCleanupHandler / cleanup function", "authen OK but req.user unset", "authen 401",
        "connection handler not int", "client gone",
    )),
    "4": ("Module mod_python.apache", (
        "log_error(msg[, level=ERR[, server]])", "import_module(name, autoreload=1, log=0, path=None)",
        "table([map or pairs]), make_table", "config_tree()", "server_root()", "mpm_query(code)",
        "exists_config_define(name)", "stat(fname, wanted)", "register_cleanup(func[, data])",
        "build_cgi_env, setup_cgi, restore_nocgi, CGIStdin, CGIStdout, NullIO",
        "resolve_object, module_mtime, init, CallBack", "allow_methods(*M_x)", "interpreter, main_server, versions",
        "import outside httpd", "constants: results", "constants: HTTP", "constants: APLOG", "constants: REMOTE",
        "constants: FINFO", "constants: URI", "constants: PROXYREQ", "constants: methods", "constants: path-info",
        "constants: MPMQ", "constants: magic", "constants: REQUEST", "constants: CONN", "constants: APR-types",
        "constants: APR-FINFO", "constants: others", "_apache", "_global_lock, _global_trylock, _global_unlock",
    )),
    "5": ("Table", (
        "t[k]", "t[k]=v, del t[k]", "add(k, v)", "get(k[, d]) / has_key(k) / in / len",
        'setdefault(k[, ""]), popitem(), clear(), copy()', "update(m)", "keys, values, items and their iterators",
        "==, !=", "repr", "table(x)", "live tables",
    )),
    "6": ("Request object", (
        "add_common_vars() / add_cgi_vars()", "add_input_filter(name) / add_output_filter(name)",
        "register_input_filter / register_output_filter(name, handler[, dir])", "allow_methods(seq[, reset])",
        "auth_name(), auth_type()", "construct_url(uri)", "discard_request_body()", "document_root()", "flush()",
        "get_addhandler_exts()", "get_basic_auth_pw()", "get_config() / get_options()",
        "get_remote_host([type=NAME[, str_is_ip]])", "internal_redirect(uri)", "is_https(), ssl_var_lookup(name)",
        "log_error(msg[, level])", "meets_conditions()", "read([n])", "readline([n]) / readlines([hint])",
        "register_cleanup(func[, data])", "requires()", "send_http_header()", "sendfile(path[, off[, len]])",
        "set_content_length(n), set_etag(), set_last_modified(), update_mtime(secs)", "write(s[, flush=1])",
        "build_wsgi_env(), wsgi_start_response(status, headers[, exc])", "free attributes", "read-only attributes",
        "writable attributes", "connection, server, next, prev, main",
        "the_request, header_only, protocol, proto_num, hostname, method, method_number", "request_time",
        "allowed, allowed_xmethods, allowed_methods", "sent_bodyct, bytes_sent", "mtime", "range",
        "clength, remaining, read_length, read_body, read_chunked, expecting_100, eos_sent",
        "content_encoding, content_languages, vlist_validator", "unparsed_uri, parsed_uri",
        "useragent_addr, useragent_ip",
        "interpreter", "phase", "extension", "hlist", "_request_rec (capsule)",
        "headers_in, headers_out, err_headers_out, subprocess_env, notes", "status, status_line", "content_type",
        "handler (None allowed)", "args (None allowed)", "uri, filename, canonical_filename, path_info",
        "user, ap_auth_type", "no_cache, no_local_copy", "used_path_info", "proxyreq", "assbackwards", "chunked",
        "finfo (mp_finfo only)",
    )),
    "7": ("Connection", (
        "log_error(msg[, level])", "read([n]), readline([n]), write(s)", "read-only attributes", "base_server",
        "local_addr, client_addr, client_ip, local_ip, local_host", "remote_addr/remote_ip (deprecated)",
        "remote_host, remote_logname, double_reverse, aborted", "keepalive", "keepalives, id", "notes",
        "hlist (connection handlers only)", "free attributes",
    )),
    "8": ("Filter", (
        "read([n])", "readline([n])", "write(str|bytes)", "flush()", "close()", "pass_on()", "disable()",
        "closed, name, is_input, handler, dir", "softspace, req", "return value ignored", "flushed automatically",
        "called per brigade",
    )),
    "9": ("Server", (
        "get_config(), get_options()", "log_error", "register_cleanup(req, func[, data])", "read-only attributes",
        "defn_name, defn_line_number", "error_fname, loglevel", "names, wild_names",
        "next, my_generation, restart_time",
        "path, pathlen", "free attributes",
    )),
    "10": ("finfo", ("values", "valid", "None when unknown", "indexable")),
    "11": ("Module mod_python.util", (
        "FieldStorage(req, ...)", "list and mapping", "types of fields", "Field", "StringField", "parse_qs, parse_qsl",
        "redirect", "apply_fs_data, parse_header, FieldList, readBlockSize",
    )),
    "12": ("Module mod_python.Cookie", (
        "Cookie(name, value, **attrs)", "Cookie.parse", "SignedCookie", "MarshalCookie", "add_cookie",
        "get_cookies, get_cookie", "CookieError",
    )),
    "13": ("Module mod_python.Session", (
        "Session(req, ...)", "BaseSession", "sid", "cookie", "DbmSession", "FileSession", "MemorySession",
        "SqliteSession, RedisSession",
    )),
    "14": ("PSP", (
        "text", "code and indentation", "include", "handler", "names of a page", "errors", "PSPInterface", "cache",
        "PSP(req, filename, string, vars)", "parse(file[, dir]), parsestring(bytes)", "escaping",
    )),
    "15": ("Standard handlers", (
        "SSI: #python eval, exec", "publisher: module", "publisher: traversal", "publisher: call", "publisher: results",
        "publisher: auth", "cgihandler", "wsgi",
        "testhandler",
    )),
    "16": ("httpdconf", (
        "Directive(name, val, flipslash)", "Container(*args, only_if)", "ContainerTag(tag, attr, args)", "Comment",
        "ready classes", "write_basic_config",
    )),
    "17": ("cache", (
        "Cache(max_size)", "WeakCache", "FileCache", "HTTPCache", "ModuleCache, HttpModuleCache", "FunctionCache",
    )),
    "18": ("Command mod_python", ("create", "genconfig", "start, stop, restart", "version")),
    "19": ("Process model", (
        "interpreters per vhost name", "sys.argv", "stderr", "user site directory off", "code runs as httpd's User",
    )),
    "21": ("Defects of mod_python in these parts", (
        "non-UTF-8 header", "table.setdefault", "conn.hlist", "AutoReload", "directory-level PythonInitHandler",
        "PythonHandlerModule", "finfo[12]", "parse_qsl", "wsgi_start_response", "CGIStdin", "HTTPCache",
    )),
    "23": ("What has to hold across processes", (
        "same request object", "log calls are in the log when they return", "clean-ups run at stop",
        "a server object's option table persists", "type names", "live after the first write", "many flushed writes",
    )),
}

ALL = tuple(f"{section}.{row}" for section, (_, rows) in SECTIONS.items() for row in rows)
