package main

import "image/color"

const plotDir = "plots"

// colours can be told apart by those who see red and green alike (the Okabe–Ito palette).
var colours = map[contestant]color.Color{
	floor:       color.RGBA{0x99, 0x99, 0x99, 0xff},
	azidentity:  color.RGBA{0xe6, 0x9f, 0x00, 0xff},
	pgMultiAuth: color.RGBA{0xcc, 0x79, 0xa7, 0xff},
	ours:        color.RGBA{0x00, 0x72, 0xb2, 0xff},
}
