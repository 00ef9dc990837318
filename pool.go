package aadpool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// New is [pgxpool.New] with a credential in the place of the password: every connection of the pool logs in with a
// Microsoft Entra access token that is fresh at that moment, and none is handed out once its token has ended.
//
// dsn is as for [pgxpool.ParseConfig], the PG* environment variables and pool_* parameters included. A password in it is
// not used. cred is any azidentity credential.
//
// New gets the first token, for which it waits until ctx ends or the token timeout. It returns an error if dsn is
// malformed, or empty where no PGHOST or PGSERVICE is set, if cred is nil or has no token to give, if an option is wrong,
// and for what [Hook.Configure] refuses. As with pgxpool, it makes no connection: [pgxpool.Pool.Ping] does.
func New(ctx context.Context, dsn string, cred azcore.TokenCredential, opts ...Option) (*pgxpool.Pool, error) {
	config, err := parseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("aadpool: %w", err)
	}
	return NewWithConfig(ctx, config, cred, opts...)
}

// NewWithConfig is [pgxpool.NewWithConfig] with a credential in the place of the password; see [New] for what it does
// and which errors it returns, and [Hook.Configure] for what becomes of config's settings and callbacks. config itself is
// not changed. As pgxpool's, it panics if config has not been made by [pgxpool.ParseConfig].
func NewWithConfig(ctx context.Context, config *pgxpool.Config, cred azcore.TokenCredential, opts ...Option) (*pgxpool.Pool, error) {
	hook, err := NewHook(cred, opts...)
	if err != nil {
		return nil, err
	}
	if config != nil && config.ConnConfig == nil {
		return pgxpool.NewWithConfig(ctx, config) // which panics, as it says, because ParseConfig did not make config
	}
	if config != nil {
		config = config.Copy()
	}
	if err := hook.Configure(ctx, config); err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("aadpool: making the pool: %w", err)
	}
	return pool, nil
}

const dsnExample = "a DSN looks like postgres://role@server.postgres.database.azure.com/database"

// parseConfig is pgxpool.ParseConfig with errors that repeat nothing of the DSN.
func parseConfig(dsn string) (*pgxpool.Config, error) {
	if strings.TrimSpace(dsn) == "" && os.Getenv("PGHOST") == "" && os.Getenv("PGSERVICE") == "" {
		return nil, errors.New("the DSN is empty and neither PGHOST nor PGSERVICE is set; " + dsnExample)
	}
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("parsing the DSN: %s", parseFailure(err))
	}
	if fault := misreadDSN(dsn, &config.ConnConfig.Config); fault != "" {
		return nil, errors.New("parsing the DSN: " + fault)
	}
	return config, nil
}

// misreadDSN says what is wrong with a DSN that pgx takes to mean something else than its writer. What it was taken for
// may hold a part of a password, and is not shown.
func misreadDSN(dsn string, config *pgconn.Config) string {
	if strings.Contains(config.Host, "@") && !isUnixSocket(config.Host) {
		return "there is an @ in the host; in a URL write an @ that is in the user name as %40"
	}
	if isURL(dsn) {
		address, _, _ := strings.Cut(dsn[strings.Index(dsn, "://")+len("://"):], "?")
		if _, database, _ := strings.Cut(address, "/"); strings.Contains(database, "@") {
			return "there is an @ in the database's name; " + escapeAdvice
		}
	}
	for name := range config.RuntimeParams { // pgx takes a keyword that it does not know for a parameter of the server
		if strings.EqualFold(name, "server") || strings.EqualFold(name, "host") || strings.ContainsAny(name, ":;/?& ") {
			return "this looks like a connection string for another driver (ADO.NET, JDBC, SQLAlchemy); " + dsnExample
		}
	}
	return ""
}

// isURL tells a DSN that is a URL from one of keywords, as pgx does.
func isURL(dsn string) bool {
	return strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://")
}

const escapeAdvice = "in a URL write @ as %40, : as %3A and / as %2F where they are part of a user's or database's name or of a password"

// parseFailure is the part of pgx's error that is safe to show. pgx puts the DSN into the error's text with the
// passwords masked where it can find them, which in a malformed DSN is not always, and the whole of it into a field; so
// the error is not wrapped, and of its text only what follows the DSN is taken. Of its cause, which repeats the words that
// could not be understood and may be those of a password, only that which names a file is.
func parseFailure(err error) string {
	var parseErr *pgconn.ParseConfigError
	if !errors.As(err, &parseErr) {
		return redact(err.Error())
	}
	text, cause := parseErr.Error(), ""
	if inner := parseErr.Unwrap(); inner != nil {
		cause = " (" + inner.Error() + ")"
	}
	text = strings.TrimSuffix(text, cause)
	text = text[strings.LastIndex(text, "`: ")+len("`: "):]
	switch {
	case strings.HasPrefix(text, "failed to parse as"):
		return text + "; " + dsnExample
	case text == "invalid port":
		return text + "; " + escapeAdvice
	case strings.HasPrefix(text, "failed to configure TLS"), strings.HasPrefix(text, "failed to read service"):
		return text + cause
	}
	return text
}
