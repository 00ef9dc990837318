package diagnosis

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/reach"
)

// A Server is one that a DSN names.
type Server struct {
	Host   string
	Port   uint16
	Socket string // the path of a Unix socket; else empty
}

// Address is host and port.
func (s Server) Address() string { return net.JoinHostPort(s.Host, strconv.Itoa(int(s.Port))) }

// OfDNS is for a name without an address, or a resolver that does not tell one.
func OfDNS(s Server, err error) *Diagnosis {
	if dns, ok := errors.AsType[*net.DNSError](err); ok && !dns.IsNotFound && (dns.IsTimeout || dns.IsTemporary) {
		return &Diagnosis{
			Cause: NoResolver,
			Meaning: fmt.Sprintf("The resolver of this machine does not answer for %s: it is down, or a firewall or a network "+
				"policy closes port 53.", s.Host),
			Fix:    []string{"nslookup " + s.Host, "cat /etc/resolv.conf"},
			Status: Network,
		}
	}
	d := &Diagnosis{
		Cause: DNS,
		Meaning: fmt.Sprintf("There is no address for %s here: the name is wrong, the server is gone, or it has private "+
			"access and this network does not use its private DNS zone.", s.Host),
		Fix: []string{`az postgres flexible-server list -o table ` +
			`--query "[].{name:name, host:fullyQualifiedDomainName, state:state}"`},
		Status: Network,
	}
	if strings.Contains(s.Host, ".postgres.") {
		d.Fix = append(d.Fix,
			"# for a server with private access, from a network that is linked to this zone:",
			"az network private-dns zone list --query \"[?contains(name, 'postgres')].name\" -o tsv",
			"nslookup "+s.Host)
	}
	return d
}

// dials are what systems say of connections that a firewall of Azure's has no part in.
var dials = []struct {
	words, means string // %s is the server
	do           []string
	socket       bool
}{
	{"permission denied", "This user may not connect to the Unix socket %s: its mode, or its directory's, lets others in.",
		[]string{"# as its owner, or over TCP, in the DSN:", "host=server.postgres.database.azure.com"}, true},
	{"operation not permitted", "This machine itself forbids the connection to %s: its firewall, a sandbox or a policy.",
		[]string{"sudo nft list ruleset   # or iptables -S; in Kubernetes: kubectl get networkpolicy -A"}, false},
	{"permission denied", "This machine itself forbids the connection to %s: its firewall, a sandbox or a policy.",
		[]string{"sudo nft list ruleset   # or iptables -S; in Kubernetes: kubectl get networkpolicy -A"}, false},
	{"network is unreachable", "This machine has no route to %s: it has no network, or the address is IPv6 and the " +
		"network is not.",
		[]string{"ip route", "ip -6 route"}, false},
	{"no route to host", "There is no route to %s: a firewall refuses it, or the private network is not connected to " +
		"this one " +
		"(peering, VPN).", []string{"ip route", "# a private endpoint is reached from its network, or from one that is " +
		"peered"}, false},
}

// whole is the server as a sentence names it.
func (s Server) whole() string {
	if s.Socket != "" {
		return s.Socket
	}
	return s.Address()
}

// OfDial is for a server that takes no connection at any of its addresses.
func OfDial(s Server, errs []error) *Diagnosis {
	text := errors.Join(errs...).Error()
	for _, row := range dials {
		if strings.Contains(text, row.words) && (s.Socket != "") == row.socket {
			return &Diagnosis{Cause: Unreachable, Meaning: fmt.Sprintf(row.means, s.whole()), Fix: row.do, Status: Network}
		}
	}
	switch {
	case s.Socket != "":
		return &Diagnosis{
			Cause: Refused,
			Meaning: fmt.Sprintf("Nothing listens at the Unix socket %s. Without host= in the DSN, and without PGHOST, it "+
				"is what PostgreSQL's clients connect to.", s.Socket),
			Fix:    []string{"# in the DSN:", "host=server.postgres.database.azure.com"},
			Status: Network,
		}
	case reach.IsRefused(errors.Join(errs...)):
		return &Diagnosis{
			Cause: Refused,
			Meaning: fmt.Sprintf("The machine at %s answers, but nothing listens on port %d: the port is wrong (5432; 6432 "+
				"for PgBouncer, if it is on), or the server is stopped.", s.Host, s.Port),
			Fix: []string{
				"az postgres flexible-server show " + ServerFlags(s.Host, "--name") + " --query state -o tsv",
				"az postgres flexible-server start " + ServerFlags(s.Host, "--name"),
			},
			Status: Network,
		}
	}
	return &Diagnosis{
		Cause: Unreachable,
		Meaning: fmt.Sprintf("No connection to %s: most likely the server's firewall has no rule for this address, or "+
			"the server has private access and this network no route to it.", s.Address()),
		Fix: []string{
			"MY_IP=$(curl -s https://api.ipify.org)",
			"az postgres flexible-server firewall-rule create " + ServerFlags(s.Host, "--server-name") +
				` --name allow-me --start-ip-address "$MY_IP" --end-ip-address "$MY_IP"`,
		},
		Status: Network,
	}
}
