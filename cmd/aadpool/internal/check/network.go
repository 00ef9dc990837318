package check

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/reach"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/report"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/server"
	"github.com/aadpool/aadpool/internal/token"
)

// reachHosts goes to each server that the DSN names. With several, one that does not answer is a warning, as pgx goes
// on to the next; it returns a diagnosis only if none does.
func (c *Check) reachHosts(ctx context.Context) *diagnosis.Diagnosis {
	var first *diagnosis.Diagnosis
	reached := false
	for _, h := range c.hosts {
		d := c.reachHost(ctx, h)
		if d == nil {
			reached = true
		} else if first == nil {
			first = d
		}
	}
	if reached {
		return nil
	}
	return first
}

// reachHost resolves, dials, and makes TLS.
func (c *Check) reachHost(ctx context.Context, h server.Host) *diagnosis.Diagnosis {
	if path := h.Socket(); path != "" {
		c.skip("DNS", path+" is a Unix socket")
		conn, d := c.dial(ctx, h, "unix", []string{path})
		if d == nil {
			_ = conn.Close()
			c.skip("TLS", "none on a Unix socket")
		}
		return d
	}
	addresses, d := c.resolve(ctx, h)
	if d != nil {
		return d
	}
	conn, d := c.dial(ctx, h, "tcp", addresses)
	if d != nil {
		return d
	}
	defer conn.Close()
	if h.TLS == nil {
		c.skip("TLS", "the DSN says sslmode=disable, to this machine")
		return nil
	}
	return c.handshake(ctx, h, conn)
}

func (c *Check) resolve(ctx context.Context, h server.Host) ([]string, *diagnosis.Diagnosis) {
	if _, err := netip.ParseAddr(h.Name); err == nil {
		c.skip("DNS", h.Name+" is an address")
		return []string{h.Address()}, nil
	}
	var addresses []string
	d := c.hostStep(ctx, "DNS", func(ctx context.Context) (report.Step, *diagnosis.Diagnosis) {
		names, err := c.target.Secured.ConnConfig.LookupFunc(ctx, h.Name)
		if err == nil && len(names) == 0 {
			err = errors.New("no address")
		}
		if err != nil {
			return report.Step{Text: fmt.Sprintf("%s: %s", h.Name, shortNetworkError(err))}, diagnosis.OfDNS(h.Server(), err)
		}
		for _, name := range names {
			addresses = append(addresses, net.JoinHostPort(name, strconv.Itoa(int(h.Port))))
		}
		return report.Step{Text: h.Name + " is " + strings.Join(names, ", "),
			Details: map[string]any{"host": h.Name, "addresses": names}}, nil
	})
	return addresses, d
}

// dial connects to the first address that answers, as pgx does.
func (c *Check) dial(
	ctx context.Context, h server.Host, network string, addresses []string,
) (conn net.Conn, d *diagnosis.Diagnosis) {
	d = c.hostStep(ctx, "TCP", func(ctx context.Context) (report.Step, *diagnosis.Diagnosis) {
		var errs []error
		for i, address := range addresses {
			share, cancel := reach.Share(ctx, len(addresses)-i) // one that is silent leaves time for the others
			var dialer net.Dialer
			var err error
			conn, err = dialer.DialContext(share, network, address)
			cancel()
			if err == nil {
				return report.Step{Text: "connected to " + address, Details: map[string]any{"address": address}}, nil
			}
			errs = append(errs, fmt.Errorf("%s: %w", address, shortNetworkError(err)))
			if ctx.Err() != nil {
				break
			}
		}
		return report.Step{Text: errors.Join(errs...).Error()}, diagnosis.OfDial(h.Server(), errs)
	})
	return conn, d
}

// sslRequest asks a server for TLS:
// https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-SSLREQUEST
var sslRequest = binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, 1234<<16|5679)

func (c *Check) handshake(ctx context.Context, h server.Host, conn net.Conn) *diagnosis.Diagnosis {
	return c.hostStep(ctx, "TLS", func(ctx context.Context) (report.Step, *diagnosis.Diagnosis) {
		state, err := startTLS(ctx, conn, h.TLS, c.target.Secured.ConnConfig.SSLNegotiation == "direct")
		if err != nil {
			return report.Step{Text: token.OneLine(err.Error())}, diagnosis.OfTLS(h.Server(), err)
		}
		return describeTLS(state), nil
	})
}

func startTLS(ctx context.Context, conn net.Conn, config *tls.Config, direct bool) (tls.ConnectionState, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if !direct {
		if _, err := conn.Write(sslRequest); err != nil {
			return tls.ConnectionState{}, err
		}
		var answer [1]byte
		if _, err := io.ReadFull(conn, answer[:]); err != nil {
			return tls.ConnectionState{}, fmt.Errorf("asking for TLS: %w", err)
		}
		if err := refusesTLS(conn, answer[0]); err != nil {
			return tls.ConnectionState{}, err
		}
	}
	secured := tls.Client(conn, config)
	err := secured.HandshakeContext(ctx)
	return secured.ConnectionState(), err
}

// maxAnswer bounds what is read of an answer that is none.
const maxAnswer = 1024

// refusesTLS is the error that the first byte of an answer stands for; nil if the server has TLS.
func refusesTLS(conn net.Conn, first byte) error {
	switch first {
	case 'S':
		return nil
	case 'N':
		return diagnosis.ErrNoTLS
	}
	answer := make([]byte, maxAnswer)
	answer[0] = first
	_ = conn.SetReadDeadline(time.Now().Add(time.Second)) // what comes in it is enough to tell what it is
	n, _ := io.ReadAtLeast(conn, answer[1:], 8)
	if first == 'E' {
		return earlyError(answer[1 : 1+n])
	}
	return diagnosis.Foreign(answer[:1+n])
}

// earlyError is an ErrorResponse without its first byte: of version 3 of the protocol, or of version 2, in which a
// server that cannot start a process has it, as text up to a zero.
func earlyError(body []byte) error {
	if len(body) > 4 {
		length := int(binary.BigEndian.Uint32(body))
		var e pgproto3.ErrorResponse
		if length >= 4 && length <= len(body) && e.Decode(body[4:length]) == nil && e.Message != "" {
			return pgconn.ErrorResponseToPgError(&e)
		}
	}
	text, _, _ := strings.Cut(string(body), "\x00")
	return &pgconn.PgError{Severity: "FATAL", Code: "53000", Message: token.OneLine(text)}
}

func describeTLS(state tls.ConnectionState) report.Step {
	leaf := state.PeerCertificates[0]
	days := int(time.Until(leaf.NotAfter).Hours() / 24)
	s := report.Step{
		Text: fmt.Sprintf("%s, certificate for %s, %d days left",
			tls.VersionName(state.Version), diagnosis.CertificateNames(leaf), days),
		Details: map[string]any{
			"version": tls.VersionName(state.Version), "names": strings.Split(diagnosis.CertificateNames(leaf), ", "),
			"not_after": leaf.NotAfter.UTC(), "days_left": days,
		},
	}
	chain := state.PeerCertificates
	if len(state.VerifiedChains) > 0 {
		chain = state.VerifiedChains[0]
	}
	subjects := make([]string, len(chain))
	for i, certificate := range chain {
		subjects[i] = diagnosis.CommonName(certificate)
	}
	s.Notes = []string{"chain: " + strings.Join(subjects, " < ")}
	s.Details["chain"] = subjects
	return s
}

// shortNetworkError leaves out what the line says already.
func shortNetworkError(err error) error {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return errors.New(dns.Err)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Err != nil {
		return op.Err
	}
	return err
}
