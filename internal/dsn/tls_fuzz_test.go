package dsn

import (
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/aadpool/aadpool/internal/azuretest"
)

// FuzzNoPlaintextOffTheMachine gives the TLS policy any DSN, any PGSSLMODE and PGSSLNEGOTIATION, and then has a
// caller's BeforeConnect spoil the config in any way before the policy sees it again. A config that comes out without
// an error
//   - has no plaintext entry for a host off the machine,
//   - verifies each server that pgx would also have tried in the clear,
//   - reaches the hosts that the DSN names, all of them, and
//   - stays as it is when the policy looks at it once more, as it does at each connect.
func FuzzNoPlaintextOffTheMachine(f *testing.F) {
	for _, row := range tlsRows(f) {
		mode, negotiation := "", ""
		for _, pair := range strings.Fields(row.env) {
			switch name, value, _ := strings.Cut(pair, "="); name {
			case "PGSSLMODE":
				mode = value
			case "PGSSLNEGOTIATION":
				negotiation = value
			}
		}
		f.Add(row.dsn, mode, negotiation, []byte(nil))
		f.Add(row.dsn, mode, negotiation, []byte("&%\xcf,"))
		f.Add(row.dsn, mode, negotiation, []byte{0x00, 0x11, 0x23, 0x06, 0x27, 0x04, 0x15, 0x18})
	}
	clearPGEnvOfFuzzing(f)
	f.Fuzz(func(t *testing.T, dsn, mode, negotiation string, spoiling []byte) {
		if readsAnyFile(dsn) || strings.ContainsRune(mode+negotiation, 0) {
			t.Skip()
		}
		t.Setenv("PGSSLMODE", mode)
		t.Setenv("PGSSLNEGOTIATION", negotiation)
		config, err := pgx.ParseConfig(dsn)
		if err != nil {
			return
		}
		before := entries(config)
		if (*Target)(nil).protect(config) == nil {
			after := entries(config)
			checkPlaintextStaysHere(t, after)
			checkNothingUnverifiedThatWasOptional(t, before, after)
			if was, is := strings.Join(hostsOf(before), " "), strings.Join(hostsOf(after), " "); was != is {
				t.Fatalf("the hosts were %s and are %s", was, is)
			}
			checkOnceMore(t, config)
		}
		if azuretest.SpoilTLS(config, spoiling); len(spoiling) == 0 {
			return
		}
		before = entries(config)
		if (*Target)(nil).protect(config) == nil {
			after := entries(config)
			checkPlaintextStaysHere(t, after)
			for _, host := range hostsOf(after) {
				if !slices.Contains(hostsOf(before), host) {
					t.Fatalf("%s is not among the hosts", host)
				}
			}
			checkOnceMore(t, config)
		}
	})
}

// clearPGEnvOfFuzzing is clearPGEnv for a fuzz target.
func clearPGEnvOfFuzzing(f *testing.F) {
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "PG") {
			f.Setenv(name, "")
		}
	}
	f.Setenv("HOME", f.TempDir())
}

// readsAnyFile reports whether a DSN may name a device that pgx would read without an end.
func readsAnyFile(dsn string) bool {
	return strings.Contains(dsn, "/dev") || strings.Contains(dsn, "/proc") || strings.Contains(dsn, "%2") ||
		strings.Contains(dsn, "\\")
}

func entries(config *pgx.ConnConfig) (all []pgconn.FallbackConfig) {
	for _, entry := range entriesOf(&config.Config) {
		all = append(all, *entry)
	}
	return all
}

func checkPlaintextStaysHere(t *testing.T, entries []pgconn.FallbackConfig) {
	t.Helper()
	for _, entry := range entries {
		if entry.TLSConfig == nil && !staysHere(entry.Host) {
			t.Fatalf("plaintext to %q", entry.Host)
		}
	}
}

// staysHere reports whether what is sent to host stays on this machine. It is in other words than the policy's own.
func staysHere(host string) bool {
	if network, _ := pgconn.NetworkAddress(host, 5432); network == "unix" {
		return true
	}
	host, _, _ = strings.Cut(host, "%") // an IPv6 zone
	return strings.ToLower(host) == "localhost" || net.ParseIP(host).IsLoopback()
}

func checkNothingUnverifiedThatWasOptional(t *testing.T, before, after []pgconn.FallbackConfig) {
	t.Helper()
	for _, entry := range after {
		inTheClear := func(other pgconn.FallbackConfig) bool {
			return other.TLSConfig == nil && other.Host == entry.Host && other.Port == entry.Port
		}
		if entry.TLSConfig != nil && entry.TLSConfig.InsecureSkipVerify && slices.ContainsFunc(before, inTheClear) {
			t.Fatalf("pgx would have tried %q in the clear, and its certificate is not verified", entry.Host)
		}
	}
}

// checkOnceMore has the policy look at what it made once more.
func checkOnceMore(t *testing.T, config *pgx.ConnConfig) {
	t.Helper()
	first := entries(config)
	if err := (*Target)(nil).protect(config); err != nil {
		t.Fatalf("once more: %v", err)
	}
	second := entries(config)
	if len(first) != len(second) {
		t.Fatalf("once more: there are %d entries, and there were %d", len(second), len(first))
	}
	for i := range first {
		if first[i].Host != second[i].Host || first[i].Port != second[i].Port || first[i].TLSConfig != second[i].TLSConfig {
			t.Fatalf("once more: entry %d is another", i)
		}
	}
}

// hostsOf lists the servers of entries, each once, in their order.
func hostsOf(entries []pgconn.FallbackConfig) (hosts []string) {
	for _, entry := range entries {
		if _, address := pgconn.NetworkAddress(entry.Host, entry.Port); !slices.Contains(hosts, address) {
			hosts = append(hosts, address)
		}
	}
	return hosts
}
