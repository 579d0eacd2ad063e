// Package whatsapp is a WhatsApp server with simulated phones.
package whatsapp
