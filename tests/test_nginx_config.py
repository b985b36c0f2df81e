"""The nginx configuration: whatever is passed means itself, and nothing else. nginx is the judge."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from servermgr._nginx_config import Configuration
from servermgr._nginx_mappings import FastCgi, Filesystem, Http, Redirect
from servermgr._nginx_quoting import ConfigurationError, quote

PORT = 18099
HEALTH = "/.servermgr-0123456789abcdef"
NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:/opt/homebrew/bin")
needs_nginx = pytest.mark.server("nginx")

HOSTILE = {
    "space": "a b",
    "edge spaces": " a ",
    "double quote": 'a"b',
    "single quote": "a'b",
    "ends in quote": 'a"',
    "backslash": "a\\b",
    "ends in backslash": "a\\",
    "backslash n": "a\\nb",
    "backslash quote": 'a\\"b',
    "semicolon": "a; daemon off",
    "closes the block": "a; } } server { listen 1; location x { ",
    "quoted break-out": 'a"; } location "~ .*" { return 200 "owned',
    "single break-out": "a'; return 200 'owned",
    "braces": "{}{",
    "dollar": "$",
    "variable": "$uri",
    "unknown variable": "a$no_such_variable",
    "braced variable": "${host}",
    "unclosed variable": "${host",
    "price": "cost$5",
    "group": "$1",
    "our own variable": "${servermgr_dollar}",
    "comment": "# a",
    "newline": "a\nb",
    "newline break-out": "a\n;\nerror_log /dev/stdout;\n#",
    "carriage return": "a\rb",
    "tab": "a\tb",
    "other controls": "a\x01\x0b\x1b\x7fb",
    "unicode": "gr\u00fc\u00df \u2028 \U0001f40d",
    "percent": "100%25",
    "question mark": "a?b",
    "star": "a*",
    "tilde": "~ .*",
    "caseless": "~* .*",
    "no regex": "^~ a",
    "equals": "= a",
    "named": "@a",
    "colon": "unix:a:b",
    "regex": r"(.*)|[^x]{2,}\Q\E$",
    "dots": "...",
    "include": "a; include /etc/passwd",
    "undecodable": "a\udcffb",
}
hostile = pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE.keys())


def configured(*mappings: object, **options: object) -> Configuration:
    configuration = Configuration("127.0.0.1", PORT, HEALTH, foreground=True, **options)  # type: ignore[arg-type]
    for mapping in mappings:
        configuration.add(mapping)  # type: ignore[arg-type]
    return configuration


UNESCAPED = {"n": "\n", "r": "\r", "t": "\t"}


def tokens(text: str) -> list[str]:
    """An independent reading of the syntax: `{`, `}` and `;` alone, and the value of every word, marked by `=`."""
    found, position = [], 0
    pattern = re.compile(
        r'\s+|#[^\n]*\n|([{};])|"((?:\\.|[^"\\])*)"(?=[\s;{])|([^\s;{}"\'#](?:\$\{\w+\}|[^\s;{}"\'])*)', re.S
    )
    while position < len(text):
        match = pattern.match(text, position)
        assert match, f"not a configuration from here: {text[position : position + 80]!r}"
        position = match.end()
        sign, quoted, word = match.groups()
        if sign:
            found.append(sign)
        elif quoted is not None:
            found.append("=" + re.sub(r'\\([nrt"\\])', lambda m: UNESCAPED.get(m[1], m[1]), quoted))
        elif word:
            found.append("=" + word)
    return found


def shape(configuration: Configuration) -> list[str]:
    """The structure without the values, and without the variable that is only there for a dollar."""
    read = tokens(configuration.render().decode("utf-8", "surrogateescape"))
    if "=geo" in read:
        start = read.index("=geo")
        assert read[start : start + 7] == ["=geo", "=$servermgr_dollar", "{", "=default", "=$", ";", "}"]
        del read[start : start + 7]
    return [token[0] for token in read]


def test(base_dir: Path, configuration: Configuration) -> str:
    """What `nginx -t` has to say about it; an empty text if it is content."""
    for name in ("log", "run", "tmp"):
        (base_dir / name).mkdir(parents=True, exist_ok=True)
    (base_dir / "run/nginx.conf").write_bytes(configuration.render())
    argv = [str(NGINX), "-e", "stderr", "-t", "-q", "-p", str(base_dir), "-c", str(base_dir / "run/nginx.conf")]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False)
    return done.stderr.decode("utf-8", "replace") if done.returncode else ""


test.__test__ = False  # type: ignore[attr-defined]


def slots(value: str, base_dir: Path) -> dict[str, Configuration]:
    """The value in every place that takes one."""
    return {
        "directory": configured(Filesystem("/x", os.path.join("/", value))),
        "http_root": configured(http_root=os.path.join("/", value)),
        "prefix of files": configured(Filesystem("/" + value, "/d")),
        "prefix of redirect": configured(Redirect("/" + value, "^/a", "/b")),
        "prefix of fastcgi": configured(FastCgi("/" + value, "127.0.0.1:9000")),
        "prefix of http": configured(Http("/" + value, "127.0.0.1:9000")),
        "prefix and path of http": configured(Http(f"/{value}/", "http://127.0.0.1:9000/p/")),
        "fastcgi socket": configured(FastCgi("/x", f"unix:/{value}")),
        "http socket": configured(Http("/x", f"unix:/{value}")),
        "pattern": configured(Redirect("/x", re.escape(value), "/b")),
        "rewrite": configured(Redirect("/x", "^/a", "/" + value.replace("$", "%24"))),
    }


@needs_nginx
@hostile
def test_no_value_changes_the_structure_and_nginx_accepts_every_one(value: str, tmp_path: Path) -> None:
    innocent = slots("a", tmp_path)
    for slot, configuration in slots(value, tmp_path).items():
        assert shape(configuration) == shape(innocent[slot]), slot
        assert test(tmp_path, configuration) == "", slot


@hostile
def test_a_quoted_value_is_one_line_and_reads_back_as_itself(value: str) -> None:
    assert "\n" not in quote(value)
    assert tokens(f"x {quote(value)};") == ["=x", "=" + value, ";"]


@needs_nginx
def test_all_hostile_values_together_are_one_valid_configuration(tmp_path: Path) -> None:
    mappings = [Filesystem("/" + value, os.path.join("/", value)) for value in HOSTILE.values()]
    assert test(tmp_path, configured(*mappings)) == ""


@needs_nginx
def test_the_check_itself_can_fail(tmp_path: Path) -> None:
    assert "unknown" in test(tmp_path, configured(Redirect("/x", "^/a", "/$no_such_variable")))
    assert "missing )" in test(tmp_path, configured(Redirect("/x", "(", "/b"))).replace(
        "missing closing parenthesis", "missing )"
    )


@pytest.mark.parametrize("value", ["a\0b", "\0", "a\ud800b"])
def test_nul_and_what_no_encoding_knows_are_refused(value: str) -> None:
    for attempt in (
        lambda: Filesystem("/x", "/" + value),
        lambda: Filesystem("/" + value, "/x"),
        lambda: Redirect("/x", value, "/b"),
        lambda: Redirect("/x", "a", value),
        lambda: FastCgi("/x", "unix:/" + value),
        lambda: Http("/x", "unix:/" + value),
        lambda: Http("/x/", f"http://127.0.0.1:1/{value}/"),
        lambda: configured(http_root="/" + value),
        lambda: Configuration(value, PORT, HEALTH),
    ):
        with pytest.raises(ConfigurationError):
            attempt()


@pytest.mark.parametrize(
    "prefix",
    ["", "a", "~ /a", "= /a", "^~ /a", "@a", " /a", "~/a", "//", "/a//b", "/a/../b", "/..", "/./a", "/a//"],
)
def test_a_prefix_starts_with_a_slash_and_can_match_something(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="prefix"):
        Filesystem(prefix, "/d")


@pytest.mark.parametrize(
    "host",
    ["unix:/tmp/x", "a b", "a;b", "[::1]", "127.0.0.1:80", "a/b", "$host", "*", "~x", "a\nb", "fe80::1%lo", ":::"],
)
def test_a_host_is_an_address_or_a_name(host: str) -> None:
    with pytest.raises(ConfigurationError, match="host name"):
        Configuration(host, PORT, HEALTH)


@pytest.mark.parametrize("port", [-1, 65536, "80", None, True, 8.0])
def test_a_port_is_a_number_that_can_be_asked_for(port: object) -> None:
    with pytest.raises(ConfigurationError, match="port"):
        Configuration("127.0.0.1", port, HEALTH)  # type: ignore[arg-type]


def test_a_port_that_is_not_drawn_yet_is_never_shown_to_nginx() -> None:
    configuration = Configuration("127.0.0.1", 0, HEALTH)
    with pytest.raises(ConfigurationError, match="0 is no port from 1 to 65535"):
        configuration.render()
    configuration.port = PORT
    assert f"127.0.0.1:{PORT}".encode() in configuration.render()


@pytest.mark.parametrize(
    "destination",
    ["", "x", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:70000", "::1:90", "a b:90", "$host:90", "a:90;",
     "unix:", "unix:a", "http://127.0.0.1:90"],
)  # fmt: skip
def test_a_fastcgi_destination_names_host_and_port_or_a_socket(destination: str) -> None:
    with pytest.raises(ConfigurationError):
        FastCgi("/x", destination)


@pytest.mark.parametrize(
    "destination",
    ["", "https://127.0.0.1", "ftp://a", "http://", "http://a:0", "http://a b/", "http://user@a/", "http://$host/",
     "http://a/x?y", "http://a/x#y", "unix:", "http://[::1", "http://a;/"],
)  # fmt: skip
def test_an_http_destination_is_a_plain_url_or_a_socket(destination: str) -> None:
    with pytest.raises(ConfigurationError):
        Http("/x", destination)


@pytest.mark.parametrize(("prefix", "path"), [("/a", "/"), ("/a", "/b/"), ("/a/", "/b")])
def test_prefix_and_path_of_a_destination_agree_about_the_last_slash(prefix: str, path: str) -> None:
    with pytest.raises(ConfigurationError, match="neither"):
        Http(prefix, "http://127.0.0.1:1" + path)


def test_a_prefix_has_one_mapping() -> None:
    configuration = configured(Filesystem("/a", "/d"))
    with pytest.raises(ConfigurationError, match="already"):
        configuration.add(Http("/a", "127.0.0.1:1"))


def test_an_empty_directory_is_not_the_current_one() -> None:
    with pytest.raises(ConfigurationError, match="empty"):
        Filesystem("/", "")


def test_the_error_is_a_value_error_and_survives_pickling() -> None:
    with pytest.raises(ValueError, match="prefix") as caught:
        Filesystem("x", "/d")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301


@needs_nginx
@pytest.mark.parametrize("host", ["", "127.0.0.1", "0.0.0.0", "localhost", "::1", "::"])
def test_every_kind_of_host_is_accepted(host: str, tmp_path: Path) -> None:
    if ":" in host and not ipv6():
        pytest.skip("no IPv6 on this machine")
    configuration = Configuration(host, PORT, HEALTH, ipv6=ipv6())
    assert test(tmp_path, configuration) == ""


def test_a_wildcard_listens_by_both_protocols_or_by_ipv4_alone() -> None:
    assert b'listen "*:18099";\n        listen "[::]:18099";' in Configuration("", PORT, HEALTH).render()
    assert b"[::]" not in Configuration("", PORT, HEALTH, ipv6=False).render()


@needs_nginx
def test_mappings_may_cover_root_and_the_status_page(tmp_path: Path) -> None:
    """A user's own mapping wins over the 404 for the rest and over the status page; only the health path is kept."""
    configuration = configured(
        Http("/", "127.0.0.1:1"), FastCgi("/nginx_status", "127.0.0.1:1"), http_root="/d", account=("root", "root")
    )
    assert test(tmp_path, configuration) == ""
    assert configuration.render().count(b"stub_status") == 1


def ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory):
    """One nginx with a directory for each hostile value, mapped below a prefix with the same value."""
    base = tmp_path_factory.mktemp("hostile") / 'base "$uri"; {#}\n'
    base.mkdir()
    mappings = []
    for number, value in enumerate(HOSTILE.values()):
        directory = base / "files" / value
        directory.mkdir(parents=True)
        (directory / "here").write_text(f"file {number}")
        mappings.append(Filesystem(f"/{number}", directory))
        mappings.append(Filesystem("/p/" + value, directory))
    (base / "secret").write_text("not mapped")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    account = ("root", "root") if os.geteuid() == 0 else None
    configuration = Configuration("127.0.0.1", port, HEALTH, foreground=True, account=account)
    for mapping in mappings:
        configuration.add(mapping)
    assert test(base, configuration) == ""
    argv = [str(NGINX), "-e", "stderr", "-p", str(base), "-c", str(base / "run/nginx.conf")]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    try:
        for _ in range(400):
            with contextlib.suppress(urllib.error.URLError):  # the master listens before it has its worker, who answers
                fetch(f"http://127.0.0.1:{port}{HEALTH}")
                break
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def fetch(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode("utf-8", "replace")


@needs_nginx
@hostile
def test_a_request_gets_the_file_of_exactly_that_directory(value: str, served: str) -> None:
    number = list(HOSTILE.values()).index(value)
    escaped = urllib.parse.quote(value, safe="", errors="surrogateescape")
    assert fetch(f"{served}/{number}/here") == (200, f"file {number}")
    assert fetch(f"{served}/p/{escaped}/here") == (200, f"file {number}")
    # Without its slash: redirected to the listing, which names the file.
    status, listing = fetch(f"{served}/p/{escaped}")
    assert status == 200
    assert 'href="here"' in listing


@needs_nginx
def test_nothing_but_the_mapped_directories_is_reachable(served: str) -> None:
    for url in ("/secret", "/0/../secret", "/0../../secret", "/0..%2f..%2fsecret", "/run/nginx.conf", "/", "/p"):
        assert fetch(served + url)[0] in {400, 404}, url
