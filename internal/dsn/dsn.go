// Package dsn reads connection strings: with errors that repeat nothing of them, and with a policy that lets no access
// token leave the machine in the clear.
package dsn

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool/internal/token"
)

const (
	example      = "a DSN looks like postgres://role@server.postgres.database.azure.com/database"
	escapeAdvice = "in a URL write @ as %40, : as %3A and / as %2F where they are part of a user's or database's name " +
		"or of a password"
)

// Parse is pgxpool.ParseConfig with errors that repeat nothing of dsn. It also refuses an empty dsn where no PGHOST or
// PGSERVICE is set, and one that pgx takes to mean something else than its writer.
func Parse(dsn string) (*pgxpool.Config, error) {
	if strings.TrimSpace(dsn) == "" && os.Getenv("PGHOST") == "" && os.Getenv("PGSERVICE") == "" {
		return nil, errors.New("the DSN is empty and neither PGHOST nor PGSERVICE is set; " + example)
	}
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		if fault := unlikeAny(dsn); fault != "" {
			return nil, errors.New("parsing the DSN: " + fault)
		}
		return nil, fmt.Errorf("parsing the DSN: %s", failure(err))
	}
	if err := CheckMeaning(&config.ConnConfig.Config, dsn); err != nil {
		return nil, err
	}
	return config, nil
}

// CheckMeaning returns an error if pgx takes dsn, which config was made from, to mean something else than its writer.
// What it was taken for may hold a part of a password, and is not shown.
func CheckMeaning(config *pgconn.Config, dsn string) error {
	if fault := misread(config, dsn); fault != "" {
		return errors.New("parsing the DSN: " + fault)
	}
	return nil
}

func misread(config *pgconn.Config, dsn string) string {
	if strings.Contains(config.Host, "@") && !isUnixSocket(config.Host) {
		return "there is an @ in the host; in a URL write an @ that is in the user name as %40"
	}
	if IsURL(dsn) {
		address, _, _ := strings.Cut(dsn[strings.Index(dsn, "://")+len("://"):], "?")
		if _, database, _ := strings.Cut(address, "/"); strings.Contains(database, "@") {
			return "there is an @ in the database's name; " + escapeAdvice
		}
		if hasCutPassword(dsn) {
			return "there is a ? or # before an @; in a URL write ? as %3F and # as %23 where they are part of a password"
		}
	}
	for name := range config.RuntimeParams { // pgx takes a keyword that it does not know for a parameter of the server
		if strings.EqualFold(name, "server") || strings.EqualFold(name, "host") || strings.ContainsAny(name, ":;/?& ") {
			return "this looks like a connection string for another driver (ADO.NET, JDBC, SQLAlchemy); " + example
		}
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

// unlikeAny names what a DSN is that pgx takes for a malformed list of keywords; empty if that is what it is.
func unlikeAny(dsn string) string {
	switch trimmed := strings.TrimSpace(dsn); {
	case IsURL(trimmed) && !IsURL(dsn):
		return "there is a blank before the URL"
	case otherScheme.MatchString(dsn):
		return "this looks like a connection string for another driver (SQLAlchemy, JDBC): a URL begins with postgres://"
	case hostAlone.MatchString(dsn):
		return "this is the name of a server alone; " + example
	}
	return ""
}

// IsURL reports whether a DSN is a URL and not keywords, as pgx has it.
func IsURL(dsn string) bool {
	return strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://")
}

// failure is the part of pgx's error that is safe to show. pgx puts the DSN into the error's text with the passwords
// masked where it can find them, which in a malformed DSN is not always, and the whole of it into a field. So the error
// is not wrapped, and of its text only what follows the DSN is taken. Its cause repeats the words that could not be
// understood, which may be those of a password; only a cause that names a file is shown.
func failure(err error) string {
	var parseErr *pgconn.ParseConfigError
	if !errors.As(err, &parseErr) {
		return token.Redact(err.Error())
	}
	text, cause := parseErr.Error(), ""
	if inner := parseErr.Unwrap(); inner != nil {
		cause = " (" + inner.Error() + ")"
	}
	text = strings.TrimSuffix(text, cause)
	text = text[strings.LastIndex(text, "`: ")+len("`: "):]
	switch {
	case strings.HasPrefix(text, "failed to parse as"):
		return text + "; " + example
	case text == "invalid port":
		return text + "; " + escapeAdvice
	case cause == " (sslmode is invalid)":
		return text + cause + "; it is one of disable, allow, prefer, require, verify-ca and verify-full"
	case strings.HasPrefix(text, "failed to configure TLS"), strings.HasPrefix(text, "failed to read service"):
		return text + cause
	}
	return text
}

// Settings is what a DSN says, with the environment and the service file, that pgx does not keep in a config.
type Settings struct {
	TLS              TLSMode
	Lifetime, Jitter bool // pool_max_conn_lifetime and pool_max_conn_lifetime_jitter are given
}

// Read reads the Settings of a DSN that has been parsed before. The config that came of it does not tell, and may have
// been changed since; so the DSN is parsed again.
func Read(dsn string) Settings {
	config, err := pgx.ParseConfig(dsn)
	if err != nil { // as for a config that was not made from a DSN; what it holds was chosen
		return Settings{Lifetime: true, Jitter: true}
	}
	// pgx leaves pgxpool's parameters where it puts all that it does not know.
	_, lifetime := config.RuntimeParams["pool_max_conn_lifetime"]
	_, jitter := config.RuntimeParams["pool_max_conn_lifetime_jitter"]
	return Settings{TLS: tlsModeOf(&config.Config, dsn), Lifetime: lifetime, Jitter: jitter}
}
