package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/server"
)

// psqlEnvironment is the environment that has psql connect as a pool on the DSN would. psql gets no DSN: a password in
// it, or in a service file, would come before the token, and pgx's own keywords mean nothing to libpq.
func psqlEnvironment(t server.Target, version int) ([]string, error) {
	all := server.Hosts(&t.Secured.ConnConfig.Config)
	config := t.Secured.ConnConfig
	names, ports := make([]string, len(all)), make([]string, len(all))
	mode := "disable"
	for i, h := range all {
		names[i], ports[i] = h.Name, strconv.Itoa(int(h.Port))
		if h.TLS != nil {
			mode = server.SSLMode(h.TLS) // one for all, but for Unix sockets, to which it does not apply
		}
	}
	set := map[string]string{
		"PGHOST": strings.Join(names, ","), "PGPORT": strings.Join(ports, ","), "PGUSER": config.User,
		"PGDATABASE": config.Database,
		"PGSSLMODE":  mode, "PGSSLCERT": t.Value("sslcert"), "PGSSLKEY": t.Value("sslkey"),
		"PGTARGETSESSIONATTRS": t.Value("target_session_attrs"),
		"PGAPPNAME":            config.RuntimeParams["application_name"],
		"PGOPTIONS":            serverOptions(config.RuntimeParams),
		"PGGSSENCMODE":         "disable", // it would take the place of TLS
	}
	for name, value := range t.Libpq {
		if name != "PGGSSENCMODE" {
			set[name] = value
		}
	}
	if config.ConnectTimeout > 0 {
		set["PGCONNECT_TIMEOUT"] = strconv.Itoa(int((config.ConnectTimeout + time.Second - 1) / time.Second))
	}
	if config.SSLNegotiation == "direct" && version >= 17 {
		set["PGSSLNEGOTIATION"] = "direct"
	}
	var err error
	if set["PGSSLROOTCERT"], err = rootCertificates(mode, t.Value("sslrootcert"), version); err != nil {
		return nil, err
	}
	return replaceSettings(os.Environ(), set, leadsPsqlElsewhere), nil
}

// kept are variables of libpq that neither say where to connect nor what to send there.
var kept = map[string]bool{"PGCLIENTENCODING": true, "PGTZ": true, "PGDATESTYLE": true, "PGGEQO": true,
	"PGSYSCONFDIR": true,
	"PGLOCALEDIR":  true, "PGSSLCRL": true, "PGSSLCRLDIR": true, "PGSSLMINPROTOCOLVERSION": true,
	"PGSSLMAXPROTOCOLVERSION": true,
	"PGCHANNELBINDING":        true, "PGREQUIREAUTH": true}

// leadsPsqlElsewhere reports whether a variable of libpq, also of a version to come, may have a say in where the token
// goes, as PGHOSTADDR does. Those of psql itself (PSQL_…, PAGER) have none.
func leadsPsqlElsewhere(name string) bool { return strings.HasPrefix(name, "PG") && !kept[name] }

// aboutTheServer are libpq's variables that say how to connect, and are about the server: to the proxy they do not
// apply. https://www.postgresql.org/docs/current/libpq-envars.html. A command may have variables of its own that begin
// with PG.
var aboutTheServer = strings.Fields(`PGHOST PGHOSTADDR PGPORT PGDATABASE PGUSER PGPASSWORD PGPASSFILE PGREQUIREAUTH
	PGCHANNELBINDING PGSERVICE PGSERVICEFILE PGSSLMODE PGREQUIRESSL PGSSLNEGOTIATION PGSSLCOMPRESSION PGSSLCERT PGSSLKEY
	PGSSLCERTMODE PGSSLROOTCERT PGSSLCRL PGSSLCRLDIR PGSSLSNI PGSSLMINPROTOCOLVERSION PGSSLMAXPROTOCOLVERSION
	PGREQUIREPEER PGGSSENCMODE PGKRBSRVNAME PGGSSLIB PGGSSDELEGATION PGTARGETSESSIONATTRS PGLOADBALANCEHOSTS
	PGOPTIONS PGCONNECT_TIMEOUT PGMINPROTOCOLVERSION PGMAXPROTOCOLVERSION`)

func isAboutTheServer(name string) bool { return slices.Contains(aboutTheServer, name) }

// replaceSettings takes variables out of environ and puts those of set in.
func replaceSettings(environ []string, set map[string]string, out func(name string) bool) []string {
	result := slices.DeleteFunc(slices.Clone(environ), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return out(name)
	})
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if set[name] != "" {
			result = append(result, name+"="+set[name])
		}
	}
	return result
}

// serverOptions is PGOPTIONS: the run-time parameters, which a DSN of pgx can name and one of libpq cannot.
func serverOptions(params map[string]string) string {
	options := []string{}
	if given := params["options"]; given != "" {
		options = append(options, given)
	}
	escape := strings.NewReplacer(`\`, `\\`, " ", `\ `)
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if name != "application_name" && name != "options" {
			options = append(options, "-c "+escape.Replace(name+"="+params[name]))
		}
	}
	return strings.Join(options, " ")
}

// systemRoots is where distributions keep the system's roots in one file; crypto/x509 looks there too.
var systemRoots = []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/ssl/ca-bundle.pem",
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem"}

// rootCertificates is PGSSLROOTCERT. Without one, libpq looks for a file in the home directory and nowhere else; the
// system's roots, which pgx takes, it knows as "system" from version 16 on, with verify-full only:
// https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-SSLROOTCERT
func rootCertificates(mode, given string, version int) (string, error) {
	if mode == "disable" || (given != "" && given != "system") || (mode == "require" && given == "") {
		return given, nil
	}
	if mode == "verify-full" && version >= 16 && os.Getenv("SSL_CERT_FILE") == "" {
		return "system", nil
	}
	files := systemRoots
	if file := os.Getenv("SSL_CERT_FILE"); file != "" {
		files = []string{file}
	}
	for _, file := range files {
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
	}
	return "", exitError{status: exitTLS,
		text: fmt.Sprintf("psql %d cannot take the system's roots by itself (16 and newer can, for verify-full), and "+
			"there is no file of them here: "+
			"install ca-certificates, or put sslrootcert=FILE into the DSN", version)}
}
