// Package fair shares what a host has little of among customers: places of a [Pool],
// and beginnings of a [Pace]. Customers that wait get one in turn, whoever asked first,
// so what one customer asks for holds up nobody else's.
package fair
