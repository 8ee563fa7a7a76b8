# See hastctl's.
source (status dirname)/hastctl.fish
