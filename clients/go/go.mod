module whatisup/clients/go

go 1.26.0
