package dsn

// A treatment is what becomes of a parameter in a DSN or a service file.
type treatment string

const (
	passed  treatment = "read"              // pgx or the server understands it
	applied treatment = "applied"           // aadpool does what it says
	ignored treatment = "ignored"           // it changes nothing here, and is left out with a note
	refused treatment = "refused"           // the server would not know it, or it would not do what it says
	secret  treatment = "refused: a secret" // refused, too: its value has no place in a DSN
)

// A parameter is a name that stands in DSNs. The server would answer one that is not for it with SQLSTATE 42704.
type parameter struct {
	name     string
	whose    string
	treated  treatment
	instead  string            // what to write, or why it changes nothing
	variable string            // the environment variable of libpq's parameters
	values   map[string]string // other treatments, by value; the key "" is for any other than those
}

// Whose parameters they are, with where their list is.
const (
	libpq      = "libpq"      // https://www.postgresql.org/docs/18/libpq-connect.html#LIBPQ-PARAMKEYWORDS
	ofAadpool  = "aadpool"    // https://pkg.go.dev/github.com/aadpool/aadpool/aadpoolsql
	ofPgx      = "pgx"        // https://pkg.go.dev/github.com/jackc/pgx/v5#ParseConfig
	pgxpools   = "pgxpool"    // https://pkg.go.dev/github.com/jackc/pgx/v5/pgxpool#ParseConfig
	pgx4       = "pgx 4"      // https://pkg.go.dev/github.com/jackc/pgx/v4#ParseConfig
	libPq      = "lib/pq"     // https://pkg.go.dev/github.com/lib/pq#hdr-Connection_String_Parameters
	jdbc       = "JDBC"       // https://jdbc.postgresql.org/documentation/use/#connection-parameters
	npgsql     = "Npgsql"     // https://www.npgsql.org/doc/connection-string-parameters.html
	prisma     = "Prisma"     // https://www.prisma.io/docs/orm/overview/databases/postgresql#arguments
	sqlalchemy = "SQLAlchemy" // https://docs.sqlalchemy.org/en/20/dialects/postgresql.html
	asyncpg    = "asyncpg"    // https://magicstack.github.io/asyncpg/current/api/index.html#connection
	psycopg    = "psycopg"    // https://www.psycopg.org/psycopg3/docs/api/connections.html
	migrate    = "golang-migrate"
	goMSSQL    = "go-mssqldb"
	pgbouncer  = "PgBouncer" // https://www.pgbouncer.org/config.html#section-databases
	rails      = "Rails"     // https://guides.rubyonrails.org/configuring.html#configuring-a-database
	django     = "Django"    // https://github.com/jazzband/dj-database-url
	nodePG     = "node-postgres"
	postgresJS = "postgres.js"
	sqlx       = "sqlx for Rust" // https://docs.rs/sqlx/latest/sqlx/postgres/struct.PgConnectOptions.html
	goPG       = "go-pg and bun"
	ecto       = "Ecto"
	mysql      = "MySQL"
	anyDriver  = "another driver"
	inGo       = "Grafana and other programs in Go"
	pools      = "Rails and other pools"
)

// What is said more than once.
const (
	noGSS       = "there is no GSSAPI here: the login is with an access token"
	goKeepalive = "Go keeps TCP connections alive by itself"
	modeAdvice  = "write sslmode=verify-full"
	searchPath  = "write search_path=NAME"
	poolAdvice  = "leave it out: the pool's size is pool_max_conns=N here"
	lifeAdvice  = "write pool_max_conn_lifetime=1h or pool_max_conn_idle_time=30m"
	execAdvice  = "leave it out; behind a pooler that keeps no prepared statements write default_query_exec_mode=exec"
	queryTime   = "write statement_timeout=MILLISECONDS, which is a setting of PostgreSQL's"
	dialTime    = "write connect_timeout=SECONDS"
	leaveOut    = "leave it out"
	itsOwn      = "leave it out here: it is for that program alone"
	rootAdvice  = "write sslrootcert=FILE and sslmode=verify-full"
	fromEntra   = "leave it out: the access token comes from the credential"
	credAdvice  = "write credential=NAME, which the driver aadpool and the command take"
	settings    = "write the settings themselves, such as search_path=NAME"
	tenantIs    = "write tenant_id=TENANT, which the driver aadpool and the command take"
	scopeIs     = "write scope=SCOPE, which the driver aadpool and the command take"
	acquire     = "leave it out: the context of an Acquire bounds it"
	certAndKey  = "write sslcert=FILE and sslkey=FILE"
	minConns    = "write pool_min_conns=N"
	cacheSize   = "write statement_cache_capacity=N"
	inOrder     = "pgx tries the hosts in their order"
	byDB        = "pools read it; database/sql has DB."
	leastTLS    = "TLS 1.2 is the least"
	asDriver    = "it is for the driver aadpool and the command; a pool gets a credential and options in the call that " +
		"makes it"

	passwordPlace = "leave it out, for the login is with an access token that the credential gets"
	secretPlace   = "put it into the environment variable AZURE_CLIENT_SECRET, and credential=environment " +
		"into the DSN"
	certificatePlace = "put it into the environment variable AZURE_CLIENT_CERTIFICATE_PASSWORD"
)

// parameters are those of libpq and pgx. With others they are all that are known here by name. A name that is none of
// them and looks like a setting is left to the server: it alone knows its settings.
var parameters = []parameter{
	{name: "host", whose: libpq, treated: passed, variable: "PGHOST"},
	{name: "port", whose: libpq, treated: passed, variable: "PGPORT"},
	{name: "dbname", whose: libpq, treated: passed, variable: "PGDATABASE"},
	{name: "user", whose: libpq, treated: passed, variable: "PGUSER"},
	{name: "password", whose: libpq, treated: passed, variable: "PGPASSWORD"},
	{name: "passfile", whose: libpq, treated: passed, variable: "PGPASSFILE"},
	{name: "require_auth", whose: libpq, treated: passed, variable: "PGREQUIREAUTH"},
	{name: "channel_binding", whose: libpq, treated: passed, variable: "PGCHANNELBINDING"},
	{name: "connect_timeout", whose: libpq, treated: passed, variable: "PGCONNECT_TIMEOUT"},
	{name: "options", whose: libpq, treated: passed, variable: "PGOPTIONS"},
	{name: "application_name", whose: libpq, treated: passed, variable: "PGAPPNAME"},
	{name: "sslmode", whose: libpq, treated: passed, variable: "PGSSLMODE"},
	{name: "sslnegotiation", whose: libpq, treated: passed, variable: "PGSSLNEGOTIATION"},
	{name: "sslcert", whose: libpq, treated: passed, variable: "PGSSLCERT"},
	{name: "sslkey", whose: libpq, treated: passed, variable: "PGSSLKEY"},
	{name: "sslpassword", whose: libpq, treated: passed},
	{name: "sslcertmode", whose: libpq, treated: passed, variable: "PGSSLCERTMODE"},
	{name: "sslrootcert", whose: libpq, treated: passed, variable: "PGSSLROOTCERT"},
	{name: "sslsni", whose: libpq, treated: passed, variable: "PGSSLSNI"},
	{name: "min_protocol_version", whose: libpq, treated: passed, variable: "PGMINPROTOCOLVERSION"},
	{name: "max_protocol_version", whose: libpq, treated: passed, variable: "PGMAXPROTOCOLVERSION"},
	{name: "krbsrvname", whose: libpq, treated: passed, variable: "PGKRBSRVNAME"},
	{name: "service", whose: libpq, treated: passed, variable: "PGSERVICE"},
	{name: "servicefile", whose: libpq, treated: passed, variable: "PGSERVICEFILE"},
	{name: "target_session_attrs", whose: libpq, treated: passed, variable: "PGTARGETSESSIONATTRS"},
	{name: "replication", whose: libpq, treated: passed},
	{name: "client_encoding", whose: libpq, treated: passed, variable: "PGCLIENTENCODING",
		values: map[string]string{"auto": "pgx's encoding is always UTF8"}},

	{name: "hostaddr", whose: libpq, treated: refused, variable: "PGHOSTADDR", instead: "pgx does not have it: write " +
		"host=NAME, and have DNS or /etc/hosts lead the name to the address, since TLS verifies the name"},
	{name: "sslcrl", whose: libpq, treated: refused, variable: "PGSSLCRL",
		instead: "leave it out: pgx checks no lists of revoked certificates"},
	{name: "sslcrldir", whose: libpq, treated: refused, variable: "PGSSLCRLDIR",
		instead: "leave it out: pgx checks no lists of revoked certificates"},
	{name: "requiressl", whose: libpq, treated: refused, variable: "PGREQUIRESSL", instead: modeAdvice},
	{name: "requirepeer", whose: libpq, treated: applied, variable: "PGREQUIREPEER",
		instead: "the server of a Unix socket must run as this user; Linux only"},
	{name: "fallback_application_name", whose: libpq, treated: applied,
		instead: "it is the application_name where there is no other"},
	{name: "gssencmode", whose: libpq, treated: refused, variable: "PGGSSENCMODE", instead: "leave it out: " + noGSS,
		values: map[string]string{"disable": noGSS, "prefer": noGSS}},
	{name: "gsslib", whose: libpq, treated: ignored, variable: "PGGSSLIB", instead: noGSS},
	{name: "gssdelegation", whose: libpq, treated: ignored, variable: "PGGSSDELEGATION", instead: noGSS},
	{name: "keepalives", whose: libpq, treated: ignored, instead: goKeepalive},
	{name: "keepalives_idle", whose: libpq, treated: ignored, instead: goKeepalive},
	{name: "keepalives_interval", whose: libpq, treated: ignored, instead: goKeepalive},
	{name: "keepalives_count", whose: libpq, treated: ignored, instead: goKeepalive},
	{name: "tcp_user_timeout", whose: libpq, treated: ignored, instead: goKeepalive},
	{name: "sslcompression", whose: libpq, treated: ignored, variable: "PGSSLCOMPRESSION",
		instead: "there is no compression of TLS any more"},
	{name: "sslkeylogfile", whose: libpq, treated: ignored, instead: "no keys of TLS are written"},
	{name: "ssl_min_protocol_version", whose: libpq, treated: refused, variable: "PGSSLMINPROTOCOLVERSION",
		instead: "leave it out: TLS 1.2 is the least here, and 1.3 is used where the server has it",
		values:  map[string]string{"TLSv1": leastTLS, "TLSv1.1": leastTLS, "TLSv1.2": leastTLS}},
	{name: "ssl_max_protocol_version", whose: libpq, treated: ignored, variable: "PGSSLMAXPROTOCOLVERSION",
		instead: "the newest TLS that the server has is used"},
	{name: "load_balance_hosts", whose: libpq, treated: refused, variable: "PGLOADBALANCEHOSTS",
		instead: leaveOut + ": " + inOrder,
		values:  map[string]string{"disable": inOrder}},
	{name: "oauth_issuer", whose: libpq, treated: refused, instead: fromEntra},
	{name: "oauth_client_id", whose: libpq, treated: refused, instead: fromEntra},
	{name: "oauth_scope", whose: libpq, treated: refused, instead: fromEntra + "; " + scopeIs},
	{name: "oauth_client_secret", whose: libpq, treated: secret, instead: secretPlace},
	{name: "scram_client_key", whose: libpq, treated: secret, instead: passwordPlace},
	{name: "scram_server_key", whose: libpq, treated: secret, instead: passwordPlace},

	{name: "krbspn", whose: ofPgx, treated: passed},
	{name: "database", whose: ofPgx, treated: passed},
	{name: "default_query_exec_mode", whose: ofPgx, treated: passed},
	{name: "statement_cache_capacity", whose: ofPgx, treated: passed},
	{name: "description_cache_capacity", whose: ofPgx, treated: passed},
	{name: "timezone", whose: ofPgx, treated: passed, variable: "PGTZ"},
}

// others are those of other programs, and aadpool's own. They have no variable.
var others = []struct {
	name, whose string
	treated     treatment
	instead     string
}{
	{"credential", ofAadpool, refused, asDriver},
	{"client_id", ofAadpool, refused, asDriver},
	{"tenant_id", ofAadpool, refused, asDriver},
	{"login_hint", ofAadpool, refused, asDriver},
	{"oidc_token_file", ofAadpool, refused, asDriver},
	{"client_certificate", ofAadpool, refused, asDriver},
	{"token_timeout", ofAadpool, refused, asDriver},
	{"scope", ofAadpool, refused, asDriver},
	{"user_from_token", ofAadpool, refused, asDriver},

	{"pool_max_conns", pgxpools, refused, byDB + "SetMaxOpenConns for it"},
	{"pool_min_conns", pgxpools, refused, byDB + "SetMaxIdleConns for it"},
	{"pool_min_idle_conns", pgxpools, refused, byDB + "SetMaxIdleConns for it"},
	{"pool_max_conn_lifetime", pgxpools, refused, byDB + "SetConnMaxLifetime for it"},
	{"pool_max_conn_lifetime_jitter", pgxpools, refused, "pools read it; database/sql has none, leave it out"},
	{"pool_max_conn_idle_time", pgxpools, refused, byDB + "SetConnMaxIdleTime for it"},
	{"pool_health_check_period", pgxpools, refused, "pools read it; database/sql has none, leave it out"},
	{"pool_ping_timeout", pgxpools, refused, "pools read it; database/sql has none, leave it out"},

	{"passwd", anyDriver, secret, passwordPlace},
	{"pwd", anyDriver, secret, passwordPlace},
	{"pass", anyDriver, secret, passwordPlace},
	{"token", anyDriver, secret, passwordPlace},
	{"accesstoken", anyDriver, secret, passwordPlace},
	{"access_token", anyDriver, secret, passwordPlace},
	{"refresh_token", anyDriver, secret, passwordPlace},
	{"client_secret", anyDriver, secret, secretPlace},
	{"azure_client_secret", anyDriver, secret, secretPlace},
	{"secret", anyDriver, secret, secretPlace},
	{"client_certificate_password", anyDriver, secret, certificatePlace},
	{"certificate_password", anyDriver, secret, certificatePlace},

	{"fedauth", goMSSQL, refused, credAdvice},
	{"auth", anyDriver, refused, credAdvice},
	{"authenticator", anyDriver, refused, credAdvice},
	{"identity", anyDriver, refused, credAdvice},
	{"tenant", anyDriver, refused, tenantIs},
	{"resource", anyDriver, refused, scopeIs},
	{"audience", anyDriver, refused, scopeIs},

	{"sslinline", libPq, refused, "write sslcert=FILE and sslkey=FILE: a key has no place in a DSN"},
	{"binary_parameters", libPq, refused, execAdvice},
	{"disable_prepared_binary_result", libPq, refused, leaveOut},

	{"statement_cache_mode", pgx4, refused, "write default_query_exec_mode=cache_describe or =exec"},
	{"prefer_simple_protocol", pgx4, refused, "write default_query_exec_mode=simple_protocol"},
	{"min_read_buffer_size", pgx4, refused, leaveOut},

	{"ssl", "JDBC, asyncpg and node-postgres", refused, modeAdvice},
	{"schema", "Prisma and R2DBC", refused, searchPath},
	{"schemas", "Prisma", refused, "write search_path=NAME,NAME"},
	{"connection_limit", prisma, refused, poolAdvice},
	{"pool_timeout", "Prisma and SQLAlchemy", refused, acquire},
	{"pgbouncer", prisma, refused, execAdvice},
	{"socket_timeout", prisma, refused, queryTime},
	{"statement_cache_size", "Prisma and asyncpg", refused, cacheSize},
	{"sslaccept", prisma, refused, modeAdvice},
	{"sslidentity", prisma, refused, certAndKey},
	{"single_use_connections", prisma, refused, leaveOut},
	{"max_connection_lifetime", prisma, refused, lifeAdvice},
	{"max_idle_connection_lifetime", prisma, refused, lifeAdvice},
	{"uselibpqcompat", "node-postgres", refused, modeAdvice},

	{"prepared_statement_cache_size", sqlalchemy, refused, cacheSize},
	{"prepared_statement_name_func", sqlalchemy, refused, leaveOut},
	{"async_fallback", sqlalchemy, refused, leaveOut},
	{"executemany_mode", sqlalchemy, refused, leaveOut},
	{"isolation_level", "SQLAlchemy and Django", refused, "write default_transaction_isolation=LEVEL"},
	{"pool_size", "SQLAlchemy, Ecto and PgBouncer", refused, poolAdvice},
	{"max_overflow", sqlalchemy, refused, poolAdvice},
	{"pool_recycle", sqlalchemy, refused, lifeAdvice},
	{"pool_pre_ping", sqlalchemy, refused, "leave it out: pgxpool pings connections that were idle"},
	{"pool_use_lifo", sqlalchemy, refused, leaveOut},
	{"echo", sqlalchemy, refused, leaveOut},
	{"server_settings", asyncpg, refused, settings},
	{"command_timeout", asyncpg, refused, queryTime},
	{"timeout", "asyncpg, Npgsql and Rails", refused, dialTime},
	{"direct_tls", asyncpg, refused, "write sslnegotiation=direct"},
	{"max_cached_statement_lifetime", asyncpg, refused, leaveOut},
	{"max_cacheable_statement_size", asyncpg, refused, leaveOut},
	{"unix_sock", "pg8000", refused, "write host=DIRECTORY"},
	{"ssl_context", "pg8000", refused, modeAdvice},
	{"tcp_keepalive", "pg8000", ignored, goKeepalive},
	{"cursor_factory", psycopg, refused, leaveOut},
	{"connection_factory", psycopg, refused, leaveOut},
	{"row_factory", psycopg, refused, leaveOut},
	{"prepare_threshold", psycopg, refused, execAdvice},
	{"autocommit", "psycopg and Django", refused, leaveOut},

	{"x-…", migrate, refused, itsOwn},

	{"currentSchema", jdbc, refused, searchPath},
	{"ApplicationName", jdbc, refused, "write application_name=NAME"},
	{"loginTimeout", jdbc, refused, dialTime},
	{"connectTimeout", jdbc, refused, dialTime},
	{"socketTimeout", jdbc, refused, queryTime},
	{"queryTimeout", jdbc, refused, queryTime},
	{"cancelSignalTimeout", jdbc, refused, leaveOut},
	{"tcpKeepAlive", jdbc, ignored, goKeepalive},
	{"tcpNoDelay", jdbc, ignored, "Go sends at once by itself"},
	{"prepareThreshold", jdbc, refused, execAdvice},
	{"preparedStatementCacheQueries", jdbc, refused, cacheSize},
	{"preparedStatementCacheSizeMiB", jdbc, refused, cacheSize},
	{"preferQueryMode", jdbc, refused, "write default_query_exec_mode=exec or =simple_protocol"},
	{"defaultRowFetchSize", jdbc, refused, leaveOut},
	{"adaptiveFetch", jdbc, refused, leaveOut},
	{"stringtype", jdbc, refused, leaveOut},
	{"reWriteBatchedInserts", jdbc, refused, leaveOut},
	{"binaryTransfer", jdbc, refused, leaveOut},
	{"targetServerType", jdbc, refused, "write target_session_attrs=read-write, or another of its values"},
	{"loadBalanceHosts", jdbc, refused, leaveOut + ": " + inOrder},
	{"hostRecheckSeconds", jdbc, refused, leaveOut},
	{"assumeMinServerVersion", jdbc, refused, leaveOut},
	{"autosave", jdbc, refused, leaveOut},
	{"channelBinding", jdbc, refused, leaveOut},
	{"readOnly", jdbc, refused, "write default_transaction_read_only=on"},
	{"replicationMode", jdbc, refused, leaveOut},
	{"sslfactory", jdbc, refused, modeAdvice},
	{"sslfactoryarg", jdbc, refused, modeAdvice},
	{"sslhostnameverifier", jdbc, refused, modeAdvice},
	{"sslpasswordcallback", jdbc, refused, leaveOut},
	{"socketFactory", jdbc, refused, "leave it out: write host=DIRECTORY for a Unix socket"},
	{"authenticationPluginClassName", jdbc, refused, "leave it out: aadpool does what " +
		"Azure's plugin for JDBC does"},
	{"logUnclosedConnections", jdbc, refused, leaveOut},
	{"loggerLevel", jdbc, refused, leaveOut},
	{"loggerFile", jdbc, refused, leaveOut},
	{"unknownLength", jdbc, refused, leaveOut},
	{"maximumPoolSize", "HikariCP and Npgsql", refused, poolAdvice},
	{"minimumIdle", "HikariCP", refused, minConns},

	{"Server", npgsql, refused, "write host=NAME"},
	{"Username", "Npgsql and Rails", refused, "write user=ROLE"},
	{"UserId", npgsql, refused, "write user=ROLE"},
	{"uid", "ODBC", refused, "write user=ROLE"},
	{"InitialCatalog", npgsql, refused, "write dbname=NAME"},
	{"DataSource", npgsql, refused, "write host=NAME"},
	{"TrustServerCertificate", npgsql, refused, modeAdvice},
	{"RootCertificate", npgsql, refused, rootAdvice},
	{"Pooling", npgsql, refused, leaveOut},
	{"MaxPoolSize", npgsql, refused, poolAdvice},
	{"MinimumPoolSize", npgsql, refused, minConns},
	{"ConnectionIdleLifetime", npgsql, refused, lifeAdvice},
	{"ConnectionLifetime", npgsql, refused, lifeAdvice},
	{"ConnectionPruningInterval", npgsql, refused, leaveOut},
	{"Keepalive", npgsql, ignored, goKeepalive},
	{"IncludeErrorDetail", npgsql, refused, leaveOut},
	{"Multiplexing", npgsql, refused, leaveOut},
	{"MaxAutoPrepare", npgsql, refused, execAdvice},
	{"NoResetOnClose", npgsql, refused, leaveOut},
	{"PersistSecurityInfo", npgsql, refused, leaveOut},
	{"Enlist", npgsql, refused, leaveOut},
	{"Encoding", "Npgsql and Rails", refused, "write client_encoding=UTF8, or leave it out"},
	{"TargetSessionAttributes", npgsql, refused, "write target_session_attrs=VALUE"},
	{"driver", "ODBC", refused, leaveOut},

	{"adapter", rails, refused, leaveOut},
	{"pool", "Rails and Django", refused, poolAdvice},
	{"max_connections", pools, refused, poolAdvice},
	{"min_connections", pools, refused, minConns},
	{"checkout_timeout", rails, refused, acquire},
	{"reaping_frequency", rails, refused, leaveOut},
	{"idle_timeout", "Rails and postgres.js", refused, lifeAdvice},
	{"prepared_statements", rails, refused, execAdvice},
	{"advisory_locks", rails, refused, leaveOut},
	{"statement_limit", rails, refused, cacheSize},
	{"schema_search_path", rails, refused, searchPath},
	{"min_messages", rails, refused, "write client_min_messages=LEVEL"},
	{"variables", rails, refused, settings},
	{"insert_returning", rails, refused, leaveOut},

	{"conn_max_age", django, refused, lifeAdvice},
	{"conn_health_checks", django, refused, leaveOut},
	{"ssl_require", django, refused, modeAdvice},
	{"engine", django, refused, leaveOut},
	{"assume_role", django, refused, "write role=NAME"},
	{"server_side_binding", django, refused, leaveOut},
	{"disable_server_side_cursors", django, refused, leaveOut},

	{"pool_mode", pgbouncer, refused, leaveOut},
	{"min_pool_size", pgbouncer, refused, minConns},
	{"reserve_pool", pgbouncer, refused, poolAdvice},
	{"max_db_connections", pgbouncer, refused, poolAdvice},
	{"auth_user", pgbouncer, refused, "write user=ROLE"},
	{"auth_query", pgbouncer, refused, leaveOut},
	{"auth_dbname", pgbouncer, refused, leaveOut},
	{"connect_query", pgbouncer, refused, settings},
	{"server_lifetime", pgbouncer, refused, lifeAdvice},

	{"max", "node-postgres and postgres.js", refused, poolAdvice},
	{"min", nodePG, refused, minConns},
	{"idleTimeoutMillis", nodePG, refused, lifeAdvice},
	{"connectionTimeoutMillis", nodePG, refused, dialTime},
	{"query_timeout", nodePG, refused, queryTime},
	{"keepAliveInitialDelayMillis", nodePG, ignored, goKeepalive},
	{"allowExitOnIdle", nodePG, refused, leaveOut},
	{"prepare", postgresJS, refused, execAdvice},
	{"fetch_types", postgresJS, refused, leaveOut},
	{"max_lifetime", postgresJS, refused, lifeAdvice},
	{"dialect", "Sequelize", refused, leaveOut},
	{"searchPath", "Knex", refused, searchPath},

	{"ssl-root-cert", sqlx, refused, rootAdvice},
	{"ssl-cert", sqlx, refused, "write sslcert=FILE"},
	{"ssl-key", sqlx, refused, "write sslkey=FILE"},
	{"ssl-ca", sqlx, refused, rootAdvice},
	{"statement-cache-capacity", sqlx, refused, cacheSize},
	{"tlsmode", anyDriver, refused, modeAdvice},
	{"tls", mysql, refused, modeAdvice},
	{"ssl_mode", mysql, refused, modeAdvice},
	{"charset", mysql, refused, leaveOut},
	{"parseTime", mysql, refused, leaveOut},
	{"loc", mysql, refused, "write timezone=NAME"},
	{"multiStatements", mysql, refused, leaveOut},

	{"dial_timeout", goPG, refused, dialTime},
	{"read_timeout", goPG, refused, queryTime},
	{"write_timeout", goPG, refused, queryTime},
	{"socket_options", ecto, refused, leaveOut},
	{"socket_dir", ecto, refused, "write host=DIRECTORY"},
	{"max_open_conns", inGo, refused, poolAdvice},
	{"max_idle_conns", inGo, refused, minConns},
	{"conn_max_lifetime", inGo, refused, lifeAdvice},
}
