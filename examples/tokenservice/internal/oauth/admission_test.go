package oauth

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestAdmission(t *testing.T) {
	one, two, three := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
	a := newAdmission(3, 2)
	for _, step := range []struct {
		name  string
		from  netip.Addr
		leave bool
		want  bool
	}{
		{"the first", one, false, true},
		{"as many as an address may have", one, false, true},
		{"more than that", one, false, false},
		{"another address", two, false, true},
		{"more than all may have", three, false, false},
		{"one leaves", one, true, false},
		{"and makes room for another address", three, false, true},
		{"again more than all may have", one, false, false},
		{"the only one of an address leaves", two, true, false},
		{"and makes room", one, false, true},
	} {
		if step.leave {
			a.leave(step.from)
			continue
		}
		assert.Equal(t, step.want, a.enter(step.from), step.name)
	}
	assert.EqualValues(t, 3, a.count())
	a.leave(one)
	a.leave(one)
	a.leave(three)
	assert.Empty(t, a.byAddress, "nothing is kept of addresses without requests")
	assert.Zero(t, a.inFlight)
}

func TestBlockedAddresses(t *testing.T) {
	one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	now := time.Now()
	b := newBlockedAddresses()
	b.add(one, now.Add(time.Minute))
	b.add(netip.MustParseAddr("2001:db8::1"), now.Add(time.Minute))
	assert.Equal(t, time.Minute, b.left(one, now))
	assert.Zero(t, b.left(two, now), "another address")
	assert.Equal(t, time.Minute, b.left(netip.MustParseAddr("2001:db8::"), now), "a network of IPv6")
	assert.Zero(t, b.left(one, now.Add(time.Minute)), "after its time")
	assert.Len(t, b.until, 1, "it is forgotten then")

	for n := range maxBlocked {
		b.add(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), now.Add(-time.Second))
	}
	assert.LessOrEqual(t, len(b.until), maxBlocked)
	b.add(two, now.Add(time.Minute))
	assert.Equal(t, time.Minute, b.left(two, now), "those whose time is over make room")
}
