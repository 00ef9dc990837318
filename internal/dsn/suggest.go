package dsn

import (
	"net/url"
	"slices"
	"strings"

	"github.com/aadpool/aadpool/internal/lazyregexp"
)

var (
	anyScheme = lazyregexp.New(`^(?i)((jdbc:|r2dbc:)?postgres(ql)?(\+\w+)?|pgx[45]?|https?)://`)
	quoted    = lazyregexp.New("^([\"'`])(.*)[\"'`]$")

	// hostAlone is a name of Azure's: any other word may be a password in a wrong place.
	hostAlone = lazyregexp.New(`^[\w-]+(\.[\w-]+)*\.postgres\.[\w.-]+(:\d{1,5})?(/[\w-]*)?$`)

	hostList = lazyregexp.New(`^[\w.-]+(:\d{1,5})?(,[\w.-]+(:\d{1,5})?)*$`)
	dbName   = lazyregexp.New(`^[\w.-]*$`)
	setting  = lazyregexp.New(`^(sslmode=(disable|allow|prefer|require|verify-ca|verify-full)|` +
		`(sslrootcert|application_name|target_session_attrs|connect_timeout|pool_\w+)=[\w./-]*)$`)
)

// Suggest returns the DSN that the writer of a connString which Parse refuses most likely means, without its
// password. It is empty where that cannot be told, or where what is not the password cannot be told from it.
func Suggest(connString string) string {
	connString = clean(connString)
	suggestion := ""
	if inside := quoted.FindStringSubmatch(connString); inside != nil {
		connString = inside[2]
	}
	switch scheme := anyScheme.FindString(connString); {
	case scheme != "":
		suggestion = suggestURL(connString[len(scheme):])
	case hostAlone.MatchString(connString):
		suggestion = suggest("", connString, "", nil)
	case strings.Contains(connString, ";"):
		suggestion = suggestFromADO(connString)
	}
	if suggestion == connString {
		return ""
	}
	return suggestion
}

// suggestURL is for what comes after the scheme. A password with a / ? or # in it that is not escaped reaches into the
// path: then an @ stands there, and nothing is suggested.
func suggestURL(rest string) string {
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	if strings.ContainsAny(tail, "@#") {
		return ""
	}
	user, host := "", authority
	if i := strings.LastIndex(authority, "@"); i >= 0 {
		user, host = authority[:i], authority[i+1:]
		user, _, _ = strings.Cut(user, ":")
	}
	path, query, _ := strings.Cut(tail, "?")
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		if name, ok := strings.CutPrefix(pair, "user="); ok && user == "" {
			user = name
		}
		if setting.MatchString(pair) {
			kept = append(kept, pair)
		}
	}
	return suggest(user, host, path, kept)
}

// adoNames are the names that ADO.NET has for what a DSN says.
var adoNames = map[string]string{
	"server": "host", "host": "host", "datasource": "host", "port": "port",
	"database": "database", "initialcatalog": "database",
	"userid": "user", "username": "user", "uid": "user", "user": "user",
}

func suggestFromADO(connString string) string {
	said := map[string]string{}
	for pair := range strings.SplitSeq(connString, ";") {
		key, value, _ := strings.Cut(pair, "=")
		if name := adoNames[strings.ToLower(strings.ReplaceAll(key, " ", ""))]; name != "" {
			said[name] = strings.TrimSpace(value)
		}
	}
	host := said["host"]
	if said["port"] != "" && said["port"] != "5432" {
		host += ":" + said["port"]
	}
	return suggest(said["user"], host, said["database"], nil)
}

// suggest returns a URL of these parts, or nothing where one of them does not look as it should.
func suggest(user, host, database string, settings []string) string {
	host, path, _ := strings.Cut(host, "/")
	if database = strings.TrimPrefix(database, "/"); database == "" {
		database = path
	}
	user, err := url.PathUnescape(user)
	if err != nil || !hostList.MatchString(host) || !dbName.MatchString(database) {
		return ""
	}
	if user == "" {
		user = "role"
	}
	if database == "" {
		database = "database"
	}
	u := "postgres://" + url.User(user).String() + "@" + host + "/" + database
	if len(settings) > 0 {
		u += "?" + strings.Join(slices.Compact(settings), "&")
	}
	return u
}

// WithoutServer returns the role in a user's name that ends in @ and the server's short name, as Azure's Single Server
// wanted it; ok is false for any other.
func WithoutServer(user, host string) (role string, ok bool) {
	server, domain, _ := strings.Cut(host, ".")
	at := len(user) - len("@"+server)
	if at <= 0 || domain == "" || !strings.EqualFold(user[at:], "@"+server) {
		return "", false
	}
	return user[:at], true
}
