// Package tools has no code: its go.mod names the tools that make lint and make vuln run, at the versions that they are
// run at. Go builds each of them once and keeps it in its build cache.
package tools
