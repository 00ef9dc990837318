// Package reach gives each host of a DSN its share of the time.
//
// pgconn tries the addresses of a config one after the other. Without a connect_timeout each may take all the time that
// there is: one that accepts connections and says nothing, as while it fails over, leaves none for the others.
package reach

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// An Address is one at which a server may answer, as pgconn tries it.
type Address struct {
	Host             string // as the DSN has it
	Network, Address string
	TLS              *tls.Config // nil: none
}

// Addresses looks up the hosts of config, and returns their addresses in the order in which pgconn tries them. It
// divides what is left of ctx's time among them: ConnectTimeout, which is that of one, becomes no longer than its
// share. A host that is not found in its share of the time is in the error, and takes none from the others. From then
// on config's LookupFunc answers with what was found.
func Addresses(ctx context.Context, config *pgconn.Config) ([]Address, error) {
	first := &pgconn.FallbackConfig{Host: config.Host, Port: config.Port, TLSConfig: config.TLSConfig}
	all := append([]*pgconn.FallbackConfig{first}, config.Fallbacks...)
	looked := &lookups{lookUp: config.LookupFunc, answers: map[string]answer{}}
	var addresses []Address
	var errs []error
	for i, h := range all {
		ctx, cancel := Share(ctx, len(all)-i)
		found, err := looked.addresses(ctx, h)
		cancel()
		addresses = append(addresses, found...)
		errs = append(errs, err)
	}
	config.LookupFunc = looked.again
	tries := countTries(addresses)
	if config.ValidateConnect != nil {
		tries++ // with target_session_attrs=prefer-standby pgconn comes back to a primary
	}
	if deadline, ok := ctx.Deadline(); ok {
		share := max(1, time.Until(deadline)/time.Duration(max(1, tries))) // 0 would be no timeout at all
		if config.ConnectTimeout == 0 || config.ConnectTimeout > share {
			config.ConnectTimeout = share
		}
	}
	return addresses, errors.Join(errs...)
}

// Share is a context for the next of n that are left to share the time of ctx.
func Share(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(deadline)/time.Duration(n))
}

// countTries counts as pgconn does: an address that follows on itself, with and without TLS, has one timeout.
func countTries(addresses []Address) (n int) {
	for i, a := range addresses {
		if i == 0 || a.Address != addresses[i-1].Address {
			n++
		}
	}
	return n
}

// lookups are those of a config's hosts, each made once.
type lookups struct {
	lookUp  pgconn.LookupFunc
	answers map[string]answer
}

type answer struct {
	found []string
	err   error
}

// again is a LookupFunc that answers with what was found.
func (l *lookups) again(_ context.Context, host string) ([]string, error) {
	a := l.answers[host]
	return a.found, a.err
}

func (l *lookups) addresses(ctx context.Context, h *pgconn.FallbackConfig) ([]Address, error) {
	network, address := pgconn.NetworkAddress(h.Host, h.Port)
	if network != "tcp" {
		return []Address{{h.Host, network, address, h.TLSConfig}}, nil
	}
	a, ok := l.answers[h.Host]
	if !ok {
		a.found, a.err = l.lookUp(ctx, h.Host)
		l.answers[h.Host] = a
	}
	if a.err != nil {
		return nil, fmt.Errorf("looking up %s: %w", h.Host, a.err)
	}
	addresses := make([]Address, len(a.found))
	for i, ip := range a.found {
		if _, _, err := net.SplitHostPort(ip); err != nil { // a LookupFunc may give the port, too
			ip = net.JoinHostPort(ip, strconv.Itoa(int(h.Port)))
		}
		addresses[i] = Address{h.Host, network, ip, h.TLSConfig}
	}
	return addresses, nil
}
