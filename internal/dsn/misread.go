// Package dsn reads connection strings: by pgx's own reader, with errors that repeat nothing of them, and with a policy
// that lets no access token leave the machine in the clear.
package dsn

import (
	"errors"
	"io/fs"
	"net/netip"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/aadpool/aadpool/internal/lazyregexp"
	"github.com/aadpool/aadpool/internal/token"
)

const (
	example      = "a DSN looks like postgres://role@server.postgres.database.azure.com/database"
	escapeAdvice = "in a URL write @ as %40, : as %3A and / as %2F where they are part of a user's or database's name " +
		"or of a password"
	anotherDriver = "this looks like a connection string for another driver (ADO.NET, JDBC, SQLAlchemy); " + example
)

func errEmpty() error {
	return errors.New("the DSN is empty and neither PGHOST nor PGSERVICE is set; " + example)
}

// IsURL reports whether a DSN is a URL and not keywords, as pgx has it.
func IsURL(dsn string) bool {
	return strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://")
}

// clean takes away what editors, echo and files put around a DSN, and what no part of one can be.
func clean(text string) string {
	return strings.TrimFunc(text, func(r rune) bool {
		return unicode.IsSpace(r) || r == '\ufeff' || r == '\u200b'
	})
}

// A look is a form of text that is no DSN.
type look struct {
	form *lazyregexp.Regexp
	says string
}

// looks are looked for before pgx is asked, which takes some of them for something else; the first that fits tells.
var looks = []look{
	{lazyregexp.New("^[\"'`“‘]"), "the quotes around it are a part of it: leave them out of the file or variable " +
		"that holds it"},
	{lazyregexp.New(`^(\$\{?\w+\}?|\$\(\w+\)|%\w+%|\$env:\w+)$`), "this is the name of a variable that nothing has " +
		"put the value in the place of: a shell does so outside single quotes, Compose and Kubernetes by $(NAME) or " +
		"${NAME} in their own files"},
	{lazyregexp.New(`^\{\{.*\}\}$|^<[^>]*>$`), "this is a template's placeholder, which has not been filled in"},
	{lazyregexp.New(`^(export\s+|set\s+)?[A-Z_][A-Z0-9_]*\s*=\s*["']?\w+://`), "this is a line that sets a " +
		"variable: the DSN is what stands behind the ="},
	{lazyregexp.New(`^(psql|pgcli|pg_dump)\s`), "this is a command line: the DSN is what stands behind the " +
		"program's name"},
	{lazyregexp.New(`^\{`), "this is JSON; " + example},
	{lazyregexp.New(`^(?i)postgres(ql)?(://?|:|//)$`), "there is nothing behind the scheme; " + example},
	{lazyregexp.New(`^(?i)jdbc:|^(?i)postgres(ql)?\+\w+://|^(?i)r2dbc:`), "this looks like a connection string " +
		"for another driver (SQLAlchemy, JDBC): a URL begins with postgres://"},
	{lazyregexp.New(`^(pgx|pgx4|pgx5)://`), "the scheme is golang-migrate's name of a driver: a URL begins with " +
		"postgres://"},
	{lazyregexp.New(`^(?i)https?://`), "this is the address of a web page: a URL begins with postgres://"},
	{lazyregexp.New(`^(?i)(mysql|mariadb|sqlserver|mssql|mongodb(\+srv)?|rediss?|oracle|sqlite3?|file|amqps?)://`),
		"this is a URL of another kind of server: a URL begins with postgres://"},
	{lazyregexp.New(`^(?i)postgres(ql)?(:/?[^/=\s]|//)`), "the scheme is not followed by ://; " + example},
	{lazyregexp.New(`^(?i)(postgres|postgresql)://`), "the scheme is written in lower case: a URL begins with " +
		"postgres:// or postgresql://"},
	{lazyregexp.New(`^(?i)[a-z][a-z0-9.+_-]*://`), "a URL begins with postgres:// or postgresql://"},
	{lazyregexp.New(`^(?i)(server|host|hostname|data source|datasource|initial catalog|database|user id|username|` +
		`userid|uid|port|driver|dsn)\s*=[^;]*;`), anotherDriver},
	{lazyregexp.New(`@(tcp|unix)\(`), "this looks like a connection string for another driver " +
		"(MySQL's of Go); " + example},
	{lazyregexp.New(`^[^\s=/@]+@[\w.-]+(:\d+)?(/[^\s=]*)?(\?\S*)?$`),
		"there is no scheme: a URL begins with postgres://"},
	{hostAlone, "this is the name of a server alone; " + example},
}

// unlikeAny names what a text is that is no DSN; empty if it may be one.
func unlikeAny(dsn string) string {
	if IsURL(dsn) {
		if _, rest, _ := strings.Cut(dsn, "://"); rest == "" {
			return "there is nothing behind the scheme; " + example
		}
		return ""
	}
	for _, l := range looks {
		if l.form.MatchString(dsn) {
			return l.says
		}
	}
	return ""
}

// misread names what pgx has taken for something else than its writer; empty if that cannot be seen.
func misread(config *pgconn.Config, dsn string) string {
	if fault := unlikeAny(dsn); fault != "" {
		return fault
	}
	if fault := misreadHosts(config); fault != "" {
		return fault
	}
	if IsURL(dsn) {
		if fault := misreadURL(config.Database, dsn); fault != "" {
			return fault
		}
	}
	if fault := misreadName("user", config.User); fault != "" {
		return fault
	}
	if fault := misreadName("database's name", config.Database); fault != "" {
		return fault
	}
	for name := range config.RuntimeParams { // pgx takes a keyword that it does not know for a parameter of the server
		if strings.ContainsAny(name, ":;/?& ") {
			return anotherDriver
		}
	}
	return ""
}

// unfilled is a part of a text that a shell or a template would have put something in the place of.
var unfilled = lazyregexp.New(`\$\{|\$\(|\{\{|^\$\w+$|^%\w+%$|^<[\w -]+>$`)

// inDatabase is what stands in a database's name for want of a ?.
var inDatabase = lazyregexp.New(`&\w+=`)

func misreadURL(database, dsn string) string {
	address, _, _ := strings.Cut(dsn[strings.Index(dsn, "://")+len("://"):], "?")
	switch _, name, _ := strings.Cut(address, "/"); {
	case strings.Contains(name, "@"):
		return "there is an @ in the database's name; " + escapeAdvice
	case hasCutPassword(dsn):
		return "there is a ? or # before an @; in a URL write ? as %3F and # as %23 where they are part of a password"
	case strings.HasPrefix(name, "/"):
		return "there are two slashes before the database's name"
	case inDatabase.MatchString(database):
		return "there is an & before the first parameter: write a ? there"
	}
	return ""
}

// hasCutPassword reports whether a ? or # in a password ends what pgx takes for the server's address.
func hasCutPassword(url string) bool {
	rest, fragment, _ := strings.Cut(url, "#")
	if strings.Contains(fragment, "@") {
		return true
	}
	_, query, _ := strings.Cut(rest, "?")
	for pair := range strings.SplitSeq(query, "&") {
		if name, _, _ := strings.Cut(pair, "="); strings.Contains(name, "@") {
			return true
		}
	}
	return false
}

// maxName is more bytes than the name of a host, a role or a database has: it may go into errors.
const maxName = 255

// isControl reports whether r has no picture of its own, and changes those of others: it would be in errors and logs.
func isControl(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\ufffd'
}

func misreadName(what, name string) string {
	switch {
	case len(name) > maxName:
		return "the " + what + " is longer than one can be"
	case strings.ContainsFunc(name, isControl):
		return "there is a line break or another control character in the " + what
	case unfilled.MatchString(name):
		return "the " + what + " has a variable or a placeholder in it that has not been filled in"
	}
	return ""
}

func misreadHosts(config *pgconn.Config) string {
	for _, entry := range entriesOf(config) {
		if fault := misreadHost(entry.Host); fault != "" {
			return fault
		}
	}
	return ""
}

func misreadHost(host string) string {
	if isUnixSocket(host) {
		return misreadName("Unix socket's directory", host)
	}
	switch {
	case len(host) > maxName:
		return "the host is longer than a name can be"
	case strings.Contains(host, "@"):
		return "there is an @ in the host; in a URL write an @ that is in the user name as %40"
	case strings.Contains(host, "://"):
		return "the host is a URL: write the server's name alone"
	case strings.ContainsAny(host, "[]"):
		return "there are brackets in the host: they are for addresses in URLs, and host= takes an address without them"
	case strings.ContainsAny(host, "${}<>"):
		return "the host has a variable or a placeholder in it that has not been filled in"
	case strings.Contains(host, "="):
		return "there is a = in the host: host= has no value, and takes what comes next for one"
	case strings.Contains(host, "/"):
		return "there is a / in the host: write the server's name alone, and the database as dbname="
	case strings.ContainsFunc(host, func(r rune) bool { return unicode.IsSpace(r) || isControl(r) }):
		return "there is a blank or a control character in the host"
	case strings.ContainsAny(host, ";\"'`\\"):
		return anotherDriver
	}
	if _, err := netip.ParseAddr(host); err != nil && strings.Contains(host, ":") {
		return "there is a : in the host: write the port as port="
	}
	return ""
}

// failure is the part of pgx's error that is safe to show. pgx puts the DSN into the error's text with the passwords
// masked where it can find them, which in a malformed DSN is not always, and the whole of it into a field. So the error
// is not wrapped, and of its text only what follows the DSN is taken. Its cause repeats the words that could not be
// understood, which may be those of a password, or of a key that stands where the name of a file belongs.
func failure(err error) error {
	var parseErr *pgconn.ParseConfigError
	if !errors.As(err, &parseErr) {
		return errors.New(token.Redact(err.Error()))
	}
	text, cause := parseErr.Error(), ""
	if inner := parseErr.Unwrap(); inner != nil {
		cause = " (" + inner.Error() + ")"
	}
	text = strings.TrimSuffix(text, cause)
	text = text[strings.LastIndex(text, "`: ")+len("`: "):]
	switch {
	case strings.HasPrefix(text, "failed to parse as"):
		text += urlAdvice(cause) + "; " + example
	case text == "invalid port":
		text += "; " + escapeAdvice
	case strings.HasPrefix(text, "failed to configure TLS"):
		return tlsFailure{text: text, cause: parseErr.Unwrap()}
	case strings.HasPrefix(text, "failed to read service"):
		text += serviceAdvice(cause)
	case strings.HasPrefix(text, "unknown "), strings.HasPrefix(text, "invalid "),
		strings.HasPrefix(text, "cannot parse "):
		text = withoutValue(text)
	}
	return errors.New(text)
}

// urlAdvice is for what pgx says of a URL's parameters.
func urlAdvice(cause string) string {
	switch {
	case strings.Contains(cause, `extra key/value separator "="`):
		return " (a parameter has a second =: write it as %3D)"
	case strings.Contains(cause, `missing key/value separator "="`):
		return " (a parameter has no =, or there is an & too many)"
	case strings.Contains(cause, "percent-encoded"):
		return " (a % is not followed by two hexadecimal digits: write it as %25)"
	}
	return ""
}

func serviceAdvice(cause string) string {
	if strings.Contains(cause, "unable to find service") {
		return " (the service file has no service of this name); see service=, PGSERVICE and the file"
	}
	return " (the service file cannot be read); see servicefile=, PGSERVICEFILE and ~/.pg_service.conf"
}

// withoutValue cuts off a value that pgx repeats behind a colon.
func withoutValue(text string) string {
	before, _, _ := strings.Cut(text, ":")
	return strings.TrimSuffix(before, " value")
}

// ErrFile is what the error of [Read] is, by errors.Is, if a file of sslrootcert, sslcert or sslkey cannot be used.
var ErrFile = errors.New("a file of the DSN's cannot be used")

// A tlsFailure is pgx's error about what a DSN says of TLS.
type tlsFailure struct {
	text  string
	cause error
}

func (e tlsFailure) Is(target error) bool { return target == ErrFile && e.file() != "" }

// files are what pgx says of the files that it reads, and which parameter names them.
var files = []struct{ words, parameter string }{
	{"CA file", "sslrootcert"}, {"add CA", "sslrootcert"}, {"system certificate pool", "sslrootcert"},
	{"sslkey", "sslkey"}, {"decrypt key", "sslkey"}, {"sslpassword", "sslkey"},
	{"read cert", "sslcert"}, {"load cert", "sslcert"},
}

func (e tlsFailure) file() string {
	if e.cause == nil || strings.HasPrefix(e.cause.Error(), "both ") {
		return ""
	}
	words, _, _ := strings.Cut(e.cause.Error(), ":")
	for _, f := range files {
		if strings.Contains(words, f.words) {
			return f.parameter
		}
	}
	return ""
}

// fileName is what can be shown of a file's name: a key or a password may stand in its place.
var fileName = lazyregexp.New(`^[\w./\\:~ -]{1,200}\.(?i:pem|crt|cer|cert|key|der|pk8|p12)$`)

// Error repeats the name of a file only if it looks like one.
func (e tlsFailure) Error() string {
	if e.cause == nil {
		return e.text
	}
	cause := e.cause.Error()
	switch file := e.file(); {
	case cause == "sslmode is invalid":
		return e.text + " (sslmode is invalid); it is one of disable, allow, prefer, require, verify-ca and verify-full"
	case file != "":
		what, _, _ := strings.Cut(cause, ":")
		text := e.text + " (" + what
		if path, ok := errors.AsType[*fs.PathError](e.cause); ok {
			if fileName.MatchString(path.Path) {
				text += " " + path.Path
			}
			text += ": " + path.Err.Error()
		}
		return text + "); see the file that " + file + "= or " + variableOf(file) + " names"
	}
	if strings.HasPrefix(cause, "both ") {
		return e.text + " (" + cause + ")"
	}
	return e.text
}
