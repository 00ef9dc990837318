package connections

import "net/netip"

// Address returns the address in an address and port, such as an http.Request's RemoteAddr, or the zero Addr if there
// is none in it.
func Address(remote string) netip.Addr {
	addrPort, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return addrPort.Addr().Unmap().WithZone("")
}

// Network returns what is counted as one client: an IPv4 address, or the first address of an IPv6 network of 64 bits,
// which is what one customer has: https://www.rfc-editor.org/rfc/rfc6177.
func Network(address netip.Addr) netip.Addr {
	if !address.Is6() {
		return address
	}
	prefix, err := address.Prefix(64)
	if err != nil {
		return address
	}
	return prefix.Addr()
}
