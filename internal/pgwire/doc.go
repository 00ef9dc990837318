// Package pgwire is the part of PostgreSQL's wire protocol that a server needs before a session begins, and a proxy
// around one: encryption, the startup packet, protocol versions, passwords, refusals, cancel requests, message
// boundaries. The stand-in server of package aadpooltest and aadpool proxy share it.
//
// The protocol: https://www.postgresql.org/docs/current/protocol.html
package pgwire
