package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/unixlistener"
)

// A proxy that shuts down keeps its addresses for cancel requests until another proxy wants them. That one asks for
// them at the address itself: by a cancel request for a process that no server has, to which no server pays attention.
// Whoever can connect can ask. All that comes of it is that a proxy which opens no more sessions stops listening a
// little sooner than it would.
var letGo = &pgproto3.CancelRequest{ProcessID: 0, SecretKey: []byte("aadp")}

// asksToLetGo reports whether a cancel request is another proxy's question for this one's addresses.
func asksToLetGo(r *pgproto3.CancelRequest) bool {
	return r.ProcessID == letGo.ProcessID && bytes.Equal(r.SecretKey, letGo.SecretKey)
}

// takeOverTimeout is how long a proxy tries to get an address that another program has.
const takeOverTimeout = 2 * time.Second

// errInUse is for an address that another proxy has.
type errInUse struct{ error }

// wsaAddrInUse is Windows' own EADDRINUSE.
const wsaAddrInUse = syscall.Errno(10048)

// isInUse reports whether listening failed since another program, a proxy perhaps, has the address.
func isInUse(err error) bool {
	_, byProxy := errors.AsType[errInUse](err)
	return byProxy || errors.Is(err, unixlistener.ErrInUse) || errors.Is(err, syscall.EADDRINUSE) ||
		errors.Is(err, wsaAddrInUse)
}

// takingOver listens at an address of clients, which a proxy that shuts down lets go of when it is asked.
func takingOver[T any](network, address string, listen func() (T, error)) (T, error) {
	return untilFree(listen, func(deadline time.Time) { askToLetGo(network, address, deadline) })
}

// untilFree listens when the program that has the address has been asked for it, or has ended.
func untilFree[T any](listen func() (T, error), ask func(deadline time.Time)) (listener T, err error) {
	deadline, pause := time.Now().Add(takeOverTimeout), drainPoll
	for {
		listener, err = listen()
		if err == nil || !isInUse(err) || time.Now().After(deadline) {
			return listener, err
		}
		ask(deadline)
		time.Sleep(pause)
		pause *= 2 // PostgreSQL, which may have the address as well, logs each question
	}
}

// askToLetGo returns when the proxy at the address has dealt with the question.
func askToLetGo(network, address string, deadline time.Time) {
	conn, err := net.DialTimeout(network, address, time.Until(deadline))
	if err != nil {
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(deadline)
	packet, err := letGo.Encode(nil)
	if err != nil {
		return
	}
	if _, err := conn.Write(packet); err == nil {
		_, _ = io.Copy(io.Discard, conn)
	}
}
