package service_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/aadpool/aadpool/examples/tokenservice/internal/connections"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/localservice"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/service"
)

// holds are what clients can hold without credentials.
var holds = map[string]func(e *environment, replica *localservice.Replica){
	"TLS handshakes are held open": func(e *environment, replica *localservice.Replica) { e.dialTCP(replica) },
	"connections are idle": func(e *environment, replica *localservice.Replica) {
		e.dialTLS(replica, "http/1.1")
	},
	"connections are idle after an answer": func(e *environment, replica *localservice.Replica) {
		conn := e.dialTLS(replica, "http/1.1")
		_, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
		require.NoError(e.t, err)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(e.t, err)
		require.NoError(e.t, response.Body.Close())
		require.Equal(e.t, http.StatusNoContent, response.StatusCode)
	},
	"headers are held open": func(e *environment, replica *localservice.Replica) {
		_, err := io.WriteString(e.dialTLS(replica, "http/1.1"), tokenHeader(100)[:40])
		require.NoError(e.t, err)
	},
	"bodies are held open": func(e *environment, replica *localservice.Replica) { e.openBody(replica) },
	"streams of HTTP/2 are held open": func(e *environment, replica *localservice.Replica) {
		attacker := e.dialStreams(replica)
		for range attacker.max {
			_, err := attacker.open(localservice.Registration{})
			require.NoError(e.t, err)
		}
	},
}

// Each holds what it can as many times as there are slots in flight and connections of its address. A client of the
// same address, which opens a connection after that, is served.
func TestLoginsGoOnWhile(t *testing.T) {
	t.Parallel()
	const inFlight, perAddress = 4, 8
	e := setup(t, func(c *service.Config) {
		c.OAuth.MaxInFlight, c.OAuth.MaxInFlightPerAddress = inFlight, inFlight
		c.Connections = connections.Limits{Total: 3 * perAddress, PerAddress: perAddress}
	})
	orders := e.register("orders")
	for name, hold := range holds {
		t.Run(name, func(t *testing.T) {
			replica := e.start(nil)
			for range 2 * perAddress {
				hold(e, replica)
			}
			client := e.freshClient()
			for range 5 {
				e.mustServe(client, replica, orders)
			}
			counts := replica.Service.Counts()
			assert.LessOrEqual(t, counts.Connections.Evicted, int64(perAddress+1), "fewer where some have timed out")
			counts.Connections.Evicted = 0
			assert.Zero(t, counts)
		})
	}
}

// A body must have arrived by a time, however many bytes of it do.
func TestSlowBodies(t *testing.T) {
	t.Parallel()
	e := setup(t, func(c *service.Config) { c.OAuth.BodyTimeout = time.Second })
	orders := e.register("orders")
	t.Run("nothing of it", func(t *testing.T) {
		_, answers := e.openBody(e.replica)
		mustTimeOut(t, answers)
	})
	t.Run("a byte at a time", func(t *testing.T) {
		conn, answers := e.openBody(e.replica)
		var sending sync.WaitGroup
		defer sending.Wait()
		defer conn.Close()
		sending.Go(func() {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			var err error
			for err == nil { // all of it would take two seconds
				<-tick.C
				_, err = conn.Write([]byte("x"))
			}
		})
		mustTimeOut(t, answers)
	})
	t.Run("on a stream of HTTP/2", func(t *testing.T) {
		attacker := e.dialStreams(e.replica)
		id, err := attacker.open(orders)
		require.NoError(t, err)
		attacker.until(func(f http2.Frame) bool { return status(f, id) == "408" })
	})
	assert.Equal(t, service.Counts{Counts: e.replica.Service.Counts().Counts}, e.replica.Service.Counts())
	assert.EqualValues(t, 3, e.replica.Service.Counts().SlowBodies)
	login := func() answer { return e.do(tokenRequest(e.replica, orders, "grant_type", "client_credentials")) }
	served := login()
	for began := time.Now(); served.status == http.StatusRequestTimeout && time.Since(began) < eventually; {
		served = login() // this machine took a second from the header to the body
	}
	assert.Equal(t, http.StatusOK, served.status, "%s", served.body)
}

// mustTimeOut reads an answer of 408, after which the connection ends.
func mustTimeOut(t *testing.T, answers *bufio.Reader) {
	response, err := http.ReadResponse(answers, nil)
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	assert.Equal(t, http.StatusRequestTimeout, response.StatusCode)
	assert.JSONEq(t, `{"error":"invalid_request","error_description":"the body did not arrive in time"}`, string(body))
	_, err = answers.ReadByte()
	assert.ErrorIs(t, err, io.EOF, "the connection is closed")
}

func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	e := setup(t)
	attacker := e.dialStreams(e.replica)
	assert.EqualValues(t, 100, attacker.max)
	var last uint32
	for range attacker.max + 1 {
		var err error
		last, err = attacker.open(localservice.Registration{})
		require.NoError(t, err)
	}
	var refusal http2.ErrCode
	attacker.until(func(f http2.Frame) bool {
		reset, ok := f.(*http2.RSTStreamFrame)
		if ok {
			refusal = reset.ErrCode
		}
		return ok && reset.StreamID == last
	})
	assert.Contains(t, []http2.ErrCode{http2.ErrCodeRefusedStream, http2.ErrCodeProtocol}, refusal,
		"it is an error of the protocol once the server knows that the client has seen the settings")
}

// Streams that are opened and reset, again and again: their handlers count until they return, and then the connection
// ends.
func TestRapidResetsEndTheirConnection(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := setup(t, func(c *service.Config) {
		c.OAuth.MaxInFlight, c.OAuth.MaxInFlightPerAddress = 1000, 1000
	})
	orders := e.register("orders")
	tx, err := e.replica.Pool.Begin(ctx)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, "lock table principals") // so that no handler returns
	require.NoError(t, err)
	attacker := e.dialStreams(e.replica)
	go func() {
		for attacker.openAndResetAll(orders) == nil {
		}
	}()
	attacker.until(func(f http2.Frame) bool {
		end, ok := f.(*http2.GoAwayFrame)
		return ok && end.ErrCode == http2.ErrCodeEnhanceYourCalm
	})
	require.NoError(t, attacker.conn.Close())
	require.NoError(t, tx.Rollback(ctx))
	e.mustServe(e.freshClient(), e.replica, orders)
}

// openAndResetAll opens as many streams as may be, with a request on each, and resets them. In between their handlers
// have a moment to begin: the server does not begin one whose stream was reset.
func (s *streams) openAndResetAll(as localservice.Registration) error {
	var opened []uint32
	for range s.max {
		id, err := s.open(as)
		if err != nil {
			return err
		}
		if err := s.send(id, "grant_type=client_credentials"); err != nil {
			return err
		}
		opened = append(opened, id)
	}
	pauseFor(context.Background(), 20*time.Millisecond)
	for _, id := range opened {
		if err := s.framer.WriteRSTStream(id, http2.ErrCodeCancel); err != nil {
			return err
		}
	}
	return nil
}

// departures start a login, and return what makes its client go away.
var departures = map[string]func(e *environment, as localservice.Registration) (goAway func()){
	"by closing its connection": func(e *environment, as localservice.Registration) func() {
		leaving, leave := context.WithCancel(context.Background())
		client := e.freshClient()
		done := make(chan struct{})
		go func() {
			defer close(done)
			response, err := client.Do(tokenRequest(e.replica, as, "grant_type", "client_credentials").WithContext(leaving))
			if err == nil {
				response.Body.Close()
			}
		}()
		return func() {
			leave()
			<-done
			client.CloseIdleConnections()
		}
	},
	"by resetting its stream": func(e *environment, as localservice.Registration) func() {
		attacker := e.dialStreams(e.replica)
		id, err := attacker.open(as)
		require.NoError(e.t, err)
		require.NoError(e.t, attacker.send(id, "grant_type=client_credentials"))
		return func() {
			require.NoError(e.t, attacker.framer.WriteRSTStream(id, http2.ErrCodeCancel))
			// Answered after the reset was seen.
			require.NoError(e.t, attacker.framer.WritePing(false, [8]byte{1}))
			attacker.until(func(f http2.Frame) bool {
				ping, ok := f.(*http2.PingFrame)
				return ok && ping.IsAck()
			})
		}
	},
}

// pgx closes a connection whose query is cut short. A client that goes away must not have that done.
func TestAClientThatGoesAwayCostsNoDatabaseConnection(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := setup(t)
	orders, other := e.register("orders"), e.start(nil)
	families := func() (n int) {
		require.NoError(t, other.Pool.QueryRow(ctx, "select count(*) from refresh_families").Scan(&n))
		return n
	}
	for name, start := range departures {
		t.Run(name, func(t *testing.T) {
			logins := families()
			tx, err := other.Pool.Begin(ctx)
			require.NoError(t, err)
			_, err = tx.Exec(ctx, "select from principals for update")
			require.NoError(t, err)
			goAway := start(e, orders)
			e.waitForALock(other)
			before := e.replica.Pool.Stat().NewConnsCount()
			goAway()
			require.NoError(t, tx.Rollback(ctx))
			require.Eventually(t, func() bool { return families() > logins }, eventually, 5*time.Millisecond,
				"it is finished")
			require.Eventually(t, func() bool { return e.replica.Pool.Stat().AcquiredConns() == 0 }, eventually,
				time.Millisecond, "and has given its connection back")
			e.mustServe(e.freshClient(), e.replica, orders)
			assert.Equal(t, before, e.replica.Pool.Stat().NewConnsCount(), "on the same connections")
		})
	}
}
