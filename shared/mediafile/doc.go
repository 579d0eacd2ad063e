// Package mediafile looks into files without decoding them: what a file is, how wide
// and high, how long. It knows bytes, not the product, and it reads what strangers
// have made.
//
// Every parser reads its input once, forwards, and keeps a bounded part of it in
// memory whatever the file declares: a length in a header is a promise that is never
// paid for in advance. A file that ends early, or says what can't be, is [ErrBroken]
// or has no facts; no input makes a parser panic, loop, or remember more than
// [maxBox] bytes. Pictures are decoded in one place only, [Thumbnail], and only after
// their size was found to fit a budget.
package mediafile

import "errors"

// ErrBroken: the file is not what its first bytes say, or it is cut off.
var ErrBroken = errors.New("the file is damaged")
