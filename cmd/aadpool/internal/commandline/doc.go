// Package commandline is what kong does not do of a command line: what a fault in it says, the end of its help, its
// manual page, its completion and the version. All of it comes from kong's own model of the commands.
//
// To add a flag, add a field to its command; help, manual and completion have it by that.
package commandline
