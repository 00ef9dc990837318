package dsn

import (
	"cmp"
	"crypto/tls"
	"errors"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgservicefile"
	"github.com/jackc/pgx/v5/pgconn"
)

// What pgx does not tell of a DSN is asked of pgx: it parses the DSN again, with something in it changed, and what
// comes out differently tells. No grammar of DSNs stands here beside pgx's own.

// keysOf lists the parameters that a DSN itself gives, and not the environment or the service file. pgx names one that
// is not allowed in an error, before it reads any file; so each is allowed once it has been named.
func keysOf(dsn string) []string {
	keys := []string{}
	for len(keys) < 1000 {
		key, ok := keyNotAllowed(dsn, keys)
		if !ok || slices.Contains(keys, key) {
			break
		}
		keys = append(keys, key)
	}
	return keys
}

func keyNotAllowed(dsn string, allowed []string) (string, bool) {
	_, err := pgconn.ParseConfigWithOptions(dsn, pgconn.ParseConfigOptions{ConnStringAllowedKeys: allowed})
	if err == nil {
		return "", false
	}
	text, ok := strings.CutSuffix(err.Error(), " is not in ConnStringAllowedKeys")
	const before = "connection string key "
	at := strings.LastIndex(text, before+`"`)
	if !ok || at < 0 {
		return "", false
	}
	key, err := strconv.Unquote(text[at+len(before):])
	return strings.Clone(key), err == nil // the error's text has the whole DSN
}

// A pair is a parameter and its value, which needs no escaping.
type pair struct{ key, value string }

// probe is a parameter that only alter writes.
const probe = "aadpool_probe"

// alter returns a DSN with other values for some parameters: they go to its end, where they win. What joins them to it
// depends on how it ends (in a query, an empty value, a backslash), so each joint is tried until pgx has read probe.
func alter(dsn string, pairs ...pair) (string, bool) {
	type form struct{ dsn, joint string }
	forms, between, quote := []form{{dsn, "?"}, {dsn, "&"}, {dsn, ""}}, "&", ""
	if !IsURL(dsn) {
		forms, between, quote = []form{{dsn, " "}, {strings.TrimSuffix(dsn, `\`), " "}, {dsn, "'' "}}, " ", "'"
	}
	tail := probe + "=1"
	want := append(keysOf(dsn), probe)
	for _, p := range pairs {
		tail += between + p.key + "=" + quote + p.value + quote
		want = append(want, p.key)
	}
	for _, f := range forms {
		altered := f.dsn + f.joint + tail
		if got := keysOf(altered); slices.Contains(got, probe) && !slices.ContainsFunc(got, func(key string) bool {
			return !slices.Contains(want, key)
		}) {
			return altered, true
		}
	}
	return "", false
}

// parseAltered is what pgx makes of a DSN with other values for some parameters; nil if that cannot be told.
func parseAltered(dsn string, pairs ...pair) *pgconn.Config {
	altered, ok := alter(dsn, pairs...)
	if !ok {
		return nil
	}
	config, err := pgconn.ParseConfig(altered)
	if err != nil {
		return nil
	}
	return config
}

// withoutTLS has pgx read no certificate, and make one entry for each host.
var withoutTLS = []pair{{"sslmode", "disable"}, {"sslrootcert", ""}}

// kept are the parameters of pgx that it keeps no values of.
var kept = []string{"servicefile", "service", "sslrootcert", "sslcert", "sslkey", "target_session_attrs",
	"max_protocol_version"}

// valuesOf returns what a DSN itself gives for the kept parameters. pgx hands out as runtime parameters what it does
// not know; so each of their names gets an underscore, wherever it stands, and what comes out loses it again.
func valuesOf(dsn string) map[string]string {
	var marks, unmarks []string
	for _, key := range kept {
		marks, unmarks = append(marks, key, key+"_"), append(unmarks, key+"_", key)
	}
	values := map[string]string{}
	config := parseAltered(replace(dsn, strings.NewReplacer(marks...)), withoutTLS...)
	if config == nil {
		return values
	}
	unmark := strings.NewReplacer(unmarks...)
	for _, key := range kept {
		marked := strings.NewReplacer(marks...).Replace(key)
		if value, ok := config.RuntimeParams[marked]; ok {
			values[key] = unmark.Replace(value)
		}
	}
	return values
}

// replace is r.Replace, but for the scheme of a URL.
func replace(dsn string, r *strings.Replacer) string {
	if !IsURL(dsn) {
		return r.Replace(dsn)
	}
	scheme, rest, _ := strings.Cut(dsn, "://")
	return scheme + "://" + r.Replace(rest)
}

// given is where a DSN's parameters come from.
type given struct {
	keys    []string          // that the DSN itself gives
	values  map[string]string // of the kept parameters among them
	service map[string]string // what the service file says
}

func givenBy(dsn string) given {
	g := given{keys: keysOf(dsn), values: valuesOf(dsn)}
	name := cmp.Or(g.values["service"], os.Getenv("PGSERVICE"))
	if name == "" {
		return g
	}
	file := cmp.Or(g.values["servicefile"], os.Getenv("PGSERVICEFILE"), homeFile(".pg_service.conf"))
	if services, err := pgservicefile.ReadServicefile(file); err == nil { // pgx's own reader
		if service, err := services.GetService(name); err == nil {
			g.service = service.Settings
		}
	}
	return g
}

// value is that of one of the kept parameters, from where pgx takes it.
func (g given) value(key string) string {
	value := cmp.Or(g.values[key], g.service[key], os.Getenv(variableOf(key)))
	if value == "" && key == "sslrootcert" && runtime.GOOS != "windows" {
		if file := homeFile(filepath.Join(".postgresql", "root.crt")); file != "" {
			if _, err := os.Stat(file); err == nil {
				return file
			}
		}
	}
	return value
}

func homeFile(name string) string {
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, name)
}

// namesUser reports whether somebody has said whom to log in as, and it is not the operating system's user for want of
// a name.
func (g given) namesUser(config *pgconn.Config) bool {
	return slices.Contains(g.keys, "user") || g.service["user"] != "" || os.Getenv("PGUSER") != "" ||
		config.User != OSUser()
}

// givesPassword reports whether the DSN itself has a place for a password, which another may follow. One of PGPASSWORD
// or the password file is not used, and may be there for other programs.
func (g given) givesPassword() bool { return slices.Contains(g.keys, "password") }

var errNoHost = errors.New("no host is named, by the DSN, PGHOST or a service file, or one of several is empty: pgx " +
	"would take this machine's own PostgreSQL; put host= into the DSN")

// unnamedHost is the host that pgx takes where none is named, if one of config's is that for want of a name.
func unnamedHost(dsn string, config *pgconn.Config) string {
	local := func(host string, _ *tls.Config) bool { return isUnixSocket(host) || host == "localhost" }
	if !some(config, local) {
		return ""
	}
	unnamed := unnamedAmong(dsn)
	if unnamed == "" || !some(config, func(host string, _ *tls.Config) bool { return host == unnamed }) {
		return ""
	}
	return unnamed
}

func some(config *pgconn.Config, is func(host string, c *tls.Config) bool) bool {
	return !all(config, func(host string, c *tls.Config) bool { return !is(host, c) })
}

// unnamedAmong is the host that pgx takes where a DSN names none, if one of its hosts is that for want of a name.
func unnamedAmong(dsn string) string {
	unset := parseAltered(dsn, append(withoutTLS, pair{"host", ""}, pair{"port", ""})...)
	listed := parseAltered(dsn, withoutTLS...)
	if unset == nil || listed == nil {
		return ""
	}
	usual := unset.Host
	names := namedHosts(dsn, usual)
	for i, entry := range entriesOf(listed) {
		if entry.Host == usual && (i >= len(names) || names[i] != usual) {
			return usual
		}
	}
	return ""
}

// namedHosts are the hosts of a DSN in their order, and something else than usual where none is named. To tell those
// that the DSN itself names, its text gets another name for the last part of usual's: what stays as it was, is not
// from there.
func namedHosts(dsn, usual string) []string {
	g := givenBy(dsn)
	if !slices.Contains(g.keys, "host") {
		return strings.Split(cmp.Or(g.service["host"], os.Getenv("PGHOST")), ",")
	}
	part := path.Base(usual)
	config := parseAltered(replace(dsn, strings.NewReplacer(part, part+"_")), withoutTLS...)
	if config == nil {
		return nil
	}
	var names []string
	for _, entry := range entriesOf(config) {
		name, named := strings.CutSuffix(entry.Host, "_")
		if !named {
			name = ""
		}
		names = append(names, name)
	}
	return names
}
