// Package freeport finds ports for servers that tests start and that cannot say which one the kernel gave them.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// The ports lie below those that the kernel gives to connections and to listeners that take any port: none of them
// takes one before the server does, or while the server is down. On Linux those begin at 32768.
const first, last = 10_000, 32_767

// Address returns an address of this machine, 127.0.0.1, that nobody listens at now.
func Address() (string, error) {
	var taken error
	for range 100 {
		port := first + rand.IntN(last-first+1)
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return listener.Addr().String(), listener.Close()
		}
		taken = err
	}
	return "", fmt.Errorf("freeport: no port is free: %w", taken)
}

// For is an Address for a test, a testing.TB: programs that import this are none of package testing's.
func For(t interface {
	Helper()
	Fatal(args ...any)
}) string {
	t.Helper()
	address, err := Address()
	if err != nil {
		t.Fatal(err)
	}
	return address
}
